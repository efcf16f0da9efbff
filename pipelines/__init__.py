"""The platform: stages, params, tracking, tuning, registry and commands around `wssis`."""

import os

# MLflow reports usage unless told otherwise before its import; DVC is told in .dvc/config.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
# A model that has to be unpickled is refused, also by MLflow's own loader.
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
