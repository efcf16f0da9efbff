"""How a version is registered: files, code and metrics in MLflow's registry, under the alias `candidate`.

The models are `wssis-student` and `wssis-labeler`. MLflow loads a version by running
`pipelines/serving/pyfunc_model.py` with the code that is stored in the version.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.decode_file import own_decode, write_decode
from pipelines.tracking.store import open_store, store_uri
from wssis.pseudo_labels.rules import PseudoRules
from wssis.settings import DecodeSettings

STUDENT = "wssis-student"
LABELER = "wssis-labeler"
ALIAS = "candidate"
CONTENT_TAG = "wssis.content"  # SHA-256 of files, code and metrics
PACKAGES = ("wssis", "pipelines")  # the code stored in a version
CODE = Path(__file__).parents[2]  # the folder of these packages
ORIGIN = "origin"  # a version's folder with the files that restore its workspace, beside `model`
NO_BYTECODE = shutil.ignore_patterns("__pycache__")
REQUIREMENTS = ("mlflow", "torch", "torchvision", "timm", "numpy", "pycocotools", "pillow", "safetensors")


@dataclass(frozen=True)
class Source:
    """Where a version comes from.

    Attributes:
        run_id: the run that registers it.
        measured: metrics and the digest of the data; other values make another version.
        tags: facts noted with a new version; other values do not make another version.
        origin: folder of the files that restore the workspace (`lineage.collect`), if there is one.
    """

    run_id: str
    measured: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    origin: Path | None = None


def register_student(model: Path, decode: DecodeSettings, source: Source) -> int:
    """Register a student with its decoding thresholds and its own score threshold; see `_register`."""
    with tempfile.TemporaryDirectory() as folder:
        files = shutil.copytree(model, Path(folder) / "model")
        write_decode(files, decode, own_decode(files)[1])
        return _register(STUDENT, "student", files, source)


def register_labeler(teacher: Path, refiner: Path, rules: PseudoRules, source: Source) -> int:
    """Register teacher and refiner with the pseudo-label rules; see `_register`."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "model"
        shutil.copytree(teacher, files / "teacher")
        shutil.copytree(refiner, files / "refiner")
        (files / paths.RULES_FILE).write_text(json.dumps(asdict(rules)))
        return _register(LABELER, "labeler", files, source)


def _register(name: str, kind: str, files: Path, source: Source) -> int:
    """Make a version, or find the one with the same content, and point `candidate` at it.

    The content is the model's files, the code, and what was measured. Tags and origin of an existing version
    stay those of its first registration.

    Returns:
        the version's number.
    """
    client = open_store()
    parts = [content_hash(files), *(content_hash(CODE / package) for package in PACKAGES)]
    parts.append(json.dumps(source.measured, sort_keys=True, default=str))
    content = hashlib.sha256("".join(parts).encode()).hexdigest()
    same = client.search_model_versions(f"name = '{name}' and tags.`{CONTENT_TAG}` = '{content}'")
    if same:
        number = int(same[0].version)
    else:
        number = _log_model(name, kind, files, source)
        for key, value in {**source.tags, **source.measured, CONTENT_TAG: content}.items():
            client.set_model_version_tag(name, str(number), key, str(value))
    client.set_registered_model_alias(name, ALIAS, str(number))
    return number


def _log_model(name: str, kind: str, files: Path, source: Source) -> int:
    import mlflow

    mlflow.set_tracking_uri(store_uri())
    mlflow.set_registry_uri(store_uri())
    # MLflow recommends type hints and an input example; the signature below says as much.
    warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=source.run_id):
        code = [
            str(shutil.copytree(CODE / package, Path(folder) / package, ignore=NO_BYTECODE))
            for package in PACKAGES
        ]
        artifacts = {"model": str(files)}
        if source.origin is not None and source.origin.is_dir():
            artifacts[ORIGIN] = str(source.origin)
        info = mlflow.pyfunc.log_model(
            name=kind,
            python_model=str(CODE / "pipelines" / "serving" / "pyfunc_model.py"),
            artifacts=artifacts,
            code_paths=code,
            signature=signature(kind),
            # Without requirements MLflow imports the model to infer them, which takes half a minute.
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            registered_model_name=name,
        )
    return int(info.registered_model_version)


def signature(kind: str) -> Any:
    """The input of a "student" or a "labeler" as an MLflow signature."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    image = ColSpec(DataType.binary, "image")
    if kind == "student":
        score = ParamSpec("score", DataType.double, default=None)  # minimum score; None: the version's own
        return ModelSignature(inputs=Schema([image]), params=ParamSchema([score]))
    types = {"x": DataType.double, "y": DataType.double, "class": DataType.string}
    point = Object([Property(name, kind) for name, kind in types.items()])
    return ModelSignature(inputs=Schema([image, ColSpec(Array(point), "points")]))


def content_hash(folder: Path) -> str:
    """SHA-256 of the names and bytes of all files in a folder, without Python's bytecode."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
