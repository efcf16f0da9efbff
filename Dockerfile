# docker build -t wssis .                                    CPU (about 2.5 GB)
# docker build -t wssis --build-arg DEVICE=cuda .             CUDA (about 9 GB; run with --gpus all)
# docker run -p 127.0.0.1:5001:5001 -v "$PWD/models/student:/models:ro" wssis
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

ARG DEVICE=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# git: DVC and MLflow ask it for the commit.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/wssis
COPY constraints.txt ./
# torch and torchvision must come from the same index: PyPI has the CUDA builds, pytorch.org those for the CPU.
RUN if [ "$DEVICE" = cpu ]; then index=https://download.pytorch.org/whl/cpu; else index=https://pypi.org/simple; fi \
    && pip install --index-url "$index" $(grep -E '^(torch|torchvision)==' constraints.txt)

COPY pyproject.toml README.md LICENSE ./
COPY wssis wssis
COPY pipelines pipelines
COPY presets presets
COPY params.yaml ./
# The local version of torch (+cpu) satisfies torch==X in constraints.txt; its CUDA packages are then not needed.
RUN grep -vE '^(nvidia-|cuda-|triton)' constraints.txt > /tmp/constraints.txt \
    && pip install --constraint /tmp/constraints.txt --editable . \
    && useradd --create-home wssis

USER wssis
WORKDIR /home/wssis
EXPOSE 5001
# Reachable from outside the container only through a published port; there are no passwords: see SECURITY.md.
ENTRYPOINT ["wssis"]
CMD ["serve", "--model", "/models", "--host", "0.0.0.0", "--port", "5001"]
