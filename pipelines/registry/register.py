"""Registered models: `wssis-student` and `wssis-labeler`, new versions under the alias `candidate`."""

from __future__ import annotations

import atexit
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
from pipelines.tracking.store import open_store, server, store_place, store_uri
from wssis.errors import InputError
from wssis.settings import DecodeSettings, PseudoRules

STUDENT = "wssis-student"
LABELER = "wssis-labeler"
ALIAS = "candidate"
CONTENT_TAG = "wssis.content"  # SHA-256 of networks, settings and code, and of what it was measured on
PACKAGES = ("wssis", "pipelines")  # code that a version brings along
CODE = Path(__file__).parents[2]  # the folder of the packages `wssis` and `pipelines`
ORIGIN = "origin"  # the folder of a version with what restores its workspace, beside `model`
NO_BYTECODE = shutil.ignore_patterns("__pycache__")
# Files that Python loads by running what they say; `register` writes none.
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz"}
REQUIREMENTS = ("mlflow", "torch", "torchvision", "timm", "numpy", "pycocotools", "pillow", "safetensors")


@dataclass(frozen=True)
class Source:
    """What a version comes from.

    Attributes:
        run_id: the run that registers it.
        measured: metrics and what they were measured on; part of what makes a version the same.
        tags: further facts, which are noted with a new version and make none.
        origin: folder of the files that restore the workspace (`pipelines.registry.lineage.collect`), if
        there is one.
    """

    run_id: str
    measured: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, Any] = field(default_factory=dict)
    origin: Path | None = None


def register_student(model: Path, decode: DecodeSettings, source: Source) -> int:
    """Register a student with its decoding thresholds and its own score threshold (`decode.json`).

    Returns:
        the version (see `_register`).
    """
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "model"
        shutil.copytree(model, staged)
        write_decode(staged, decode, own_decode(staged)[1])
        return _register(STUDENT, "student", staged, source)


def register_labeler(teacher: Path, refiner: Path, rules: PseudoRules, source: Source) -> int:
    """Register teacher and refiner with the rules for labels; returns the version (see `_register`)."""
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "model"
        shutil.copytree(teacher, staged / "teacher")
        shutil.copytree(refiner, staged / "refiner")
        (staged / paths.RULES_FILE).write_text(json.dumps(asdict(rules)))
        return _register(LABELER, "labeler", staged, source)


def _register(name: str, kind: str, staged: Path, source: Source) -> int:
    """Make a version, or find the one that is the same, and point `candidate` at it.

    The same are networks and settings, the code that reads them, and what was measured: tags and origin stay
    those of the first registration, so that they must hold for every later one.
    """
    client = open_store()
    parts = [content_hash(staged), *(content_hash(CODE / package) for package in PACKAGES)]
    parts.append(json.dumps(source.measured, sort_keys=True, default=str))
    content = hashlib.sha256("".join(parts).encode()).hexdigest()
    same = client.search_model_versions(f"name = '{name}' and tags.`{CONTENT_TAG}` = '{content}'")
    number = int(same[0].version) if same else _log(name, kind, staged, source)
    if not same:
        for key, value in {**source.tags, **source.measured, CONTENT_TAG: content}.items():
            client.set_model_version_tag(name, str(number), key, str(value))
    client.set_registered_model_alias(name, ALIAS, str(number))
    return number


def _log(name: str, kind: str, staged: Path, source: Source) -> int:
    import mlflow

    mlflow.set_tracking_uri(store_uri())
    mlflow.set_registry_uri(store_uri())
    # The signature is given below; hints and examples, which MLflow would rather have, add nothing to it.
    warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=source.run_id):
        code = [str(Path(folder) / package) for package in PACKAGES]
        for package, copy in zip(PACKAGES, code, strict=True):
            shutil.copytree(CODE / package, copy, ignore=NO_BYTECODE)
        artifacts = {"model": str(staged)}
        if source.origin is not None and source.origin.is_dir():
            artifacts[ORIGIN] = str(source.origin)
        info = mlflow.pyfunc.log_model(
            name=kind,
            python_model=str(CODE / "pipelines" / "serving" / "pyfunc_model.py"),
            artifacts=artifacts,
            code_paths=code,
            signature=signature(kind),
            # Exact pins; without them MLflow imports the model to guess, which takes half a minute.
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
            registered_model_name=name,
        )
    return int(info.registered_model_version)


def signature(kind: str) -> Any:
    """What a "student" or a "labeler" takes, as MLflow says it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    image = ColSpec(DataType.binary, "image")
    if kind == "student":
        # Minimum score of an instance; none: the version's own threshold.
        score = ParamSpec("score", DataType.double, default=None)
        return ModelSignature(inputs=Schema([image]), params=ParamSchema([score]))
    fields = [
        Property("x", DataType.double),
        Property("y", DataType.double),
        Property("class", DataType.string),
    ]
    return ModelSignature(inputs=Schema([image, ColSpec(Array(Object(fields)), "points")]))


def content_hash(folder: Path) -> str:
    """SHA-256 of names and bytes of all files below a folder, Python's bytecode left out."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def local_folder(model: str) -> Path:
    """The folder of a model: a folder as it is, or the files of a `models:/name@alias` or `models:/name/1`.

    Only files are read: code that a version brings along is not run.

    Raises:
        InputError: there is no such folder, model, version or alias, or the version is none of wssis.
    """
    if not model.startswith("models:/"):
        return Path(model)
    import mlflow
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        open_store()
        # Said to all of MLflow: it looks a version up where its own default is, whatever is passed here.
        mlflow.set_tracking_uri(store_uri())
        mlflow.set_registry_uri(store_uri())
        found = download_artifacts(artifact_uri=model, dst_path=_passing_folder() if server() else None)
    except MlflowException as error:
        raise InputError(
            f"expected a registered model, found none ({error.message.splitlines()[0]})",
            where=model,
            record=store_place(),
            remedy="`wssis ui` lists models, versions and aliases",
        ) from error
    refuse_foreign(Path(found), model)
    return Path(found) / "artifacts" / "model"


def _passing_folder() -> str:
    """A folder for files from a server, which goes when this process ends."""
    folder = tempfile.mkdtemp(prefix="wssis-registered-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def refuse_foreign(version: Path, name: str) -> None:
    """Refuse a version whose files are not those that `register` writes.

    Args:
        version: its folder, with the file `MLmodel`.
        name: what an error calls it.

    Raises:
        InputError: something in it would have to be unpickled, or it holds no networks of wssis.
    """
    files = [path.relative_to(version) for path in sorted(version.rglob("*")) if path.is_file()]
    found = next((path for path in files if path.suffix.lower() in PICKLES), None)
    own = {Path("artifacts/model", *place) for place in (("model.json",), ("teacher", "model.json"))}
    if found is None and own & set(files):
        return
    raise InputError(
        "expected a model that wssis registered, found "
        + (f"{found}, which would have to be unpickled" if found else "another one"),
        where=name,
        remedy="`dvc repro` registers models",
    )
