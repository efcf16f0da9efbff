"""Versions in MLflow's registry: their files, tags and aliases."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.config.params import read_yaml
from pipelines.registry.register import CONTENT_TAG
from pipelines.tracking.store import open_store, server, store_place, store_uri
from wssis.errors import InputError

URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[0-9]+))")
# Files that run code when Python loads them; a version of ours has none.
PICKLES = {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz"}


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        name, number: of the model, and of its version.
        aliases: those that point at it, sorted.
        created: when it was registered.
        run_id: the run of the stage register.
        tags: those of its registration and of its promotions.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    run_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The version as MLflow and every command name it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def content(self) -> str:
        """Hash of its files, code and metrics."""
        return self.tags.get(CONTENT_TAG, "")

    @property
    def files(self) -> Path:
        """The folder of the networks; a server sends it each time."""
        return local_folder(self.uri)

    @property
    def folder(self) -> Path:
        """The folder of everything that MLflow keeps of it, with `code/` and `MLmodel`."""
        return self.files.parent.parent

    @property
    def signature(self) -> Any:
        """Its MLflow signature as plain values."""
        noted = read_yaml(self.folder / "MLmodel").get("signature") or {}
        return {key: json.loads(value) if value else None for key, value in noted.items()}


def versions(name: str) -> list[Version]:
    """Every version of a model, newest first; none if there is no such model."""
    known = aliases(name)
    found = [
        Version(
            name,
            int(item.version),
            tuple(sorted(alias for alias, number in known.items() if number == int(item.version))),
            datetime.fromtimestamp(item.creation_timestamp / 1000, UTC),
            item.run_id or "",
            dict(item.tags),
        )
        for item in open_store().search_model_versions(f"name = '{name}'")
    ]
    return sorted(found, key=lambda version: -version.number)


def find(name: str, wanted: int | str) -> Version:
    """The version with a number or under an alias.

    Raises:
        InputError: there is none; the message lists those that exist.
    """
    known = versions(name)
    for version in known:
        if wanted == version.number or wanted in version.aliases:
            return version
    numbers = ", ".join(str(version.number) for version in reversed(known))
    remedy = "`wssis models` lists them" if known else "`dvc repro` registers one"
    if known and wanted == "production":
        remedy += ", `wssis promote` puts one into production"
    what = f"version {wanted}" if isinstance(wanted, int) else f"a version under the alias {wanted}"
    raise InputError(
        f"expected {what}, found {f'versions {numbers}' if known else 'none'}",
        where=f"models:/{name}",
        record=store_place(),
        remedy=remedy,
    )


def find_uri(uri: str) -> Version:
    """The version of a URI `models:/name/3` or `models:/name@alias`.

    Raises:
        InputError: another form, or there is no such version.
    """
    parts = URI.fullmatch(uri)
    if parts is None:
        raise InputError(
            f"expected a registered model, found {uri}", remedy="Write models:/wssis-student@production"
        )
    return find(parts["name"], parts["alias"] or int(parts["number"]))


def local_folder(model: str) -> Path:
    """The folder of a model: a folder itself, or the files of `models:/name@alias` or `models:/name/1`.

    Only files are read; code stored in the version does not run.

    Raises:
        InputError: there is no such model, version or alias, or wssis did not register it.
    """
    if not model.startswith("models:/"):
        return Path(model)
    import mlflow
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        open_store()
        # Globally: MLflow resolves `models:/` with its default store, whatever is passed to a call.
        mlflow.set_tracking_uri(store_uri())
        mlflow.set_registry_uri(store_uri())
        found = download_artifacts(artifact_uri=model, dst_path=_temporary_folder() if server() else None)
    except MlflowException as error:
        raise InputError(
            f"expected a registered model, found none ({error.message.splitlines()[0]})",
            where=model,
            record=store_place(),
            remedy="`wssis ui` lists models, versions and aliases",
        ) from error
    refuse_foreign(Path(found), model)
    return Path(found) / "artifacts" / "model"


def _temporary_folder() -> str:
    """A folder for files from a server, deleted when this process ends."""
    folder = tempfile.mkdtemp(prefix="wssis-registered-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def refuse_foreign(version: Path, name: str) -> None:
    """Refuse a version that wssis did not register.

    Args:
        version: its folder, with the file `MLmodel`.
        name: of the version, for the error.

    Raises:
        InputError: loading a file would unpickle it, or there are no networks of wssis.
    """
    files = [path.relative_to(version) for path in sorted(version.rglob("*")) if path.is_file()]
    pickled = next((path for path in files if path.suffix.lower() in PICKLES), None)
    own = {Path("artifacts/model/model.json"), Path("artifacts/model/teacher/model.json")}
    if pickled or not own & set(files):
        found = f"{pickled}, which would have to be unpickled" if pickled else "another one"
        raise InputError(
            f"expected a model that wssis registered, found {found}",
            where=name,
            remedy="`dvc repro` registers models",
        )


def aliases(name: str) -> dict[str, int]:
    """{alias: version} of a model."""
    found = open_store().search_registered_models(f"name = '{name}'")
    return {alias: int(number) for alias, number in found[0].aliases.items()} if found else {}


def set_alias(name: str, alias: str, number: int) -> None:
    """Point an alias at a version, in one step."""
    open_store().set_registered_model_alias(name, alias, str(number))


def tag(name: str, number: int, tags: Mapping[str, Any]) -> None:
    """Set tags of a version."""
    client = open_store()
    for key, value in tags.items():
        client.set_model_version_tag(name, str(number), key, str(value))


def note(name: str, key: str) -> str:
    """A tag of a model itself, "" if it is not set."""
    found = open_store().search_registered_models(f"name = '{name}'")
    return found[0].tags.get(key, "") if found else ""


def set_note(name: str, key: str, value: str) -> None:
    """Set a tag of a model itself; "" deletes it."""
    client = open_store()
    if value:
        client.set_registered_model_tag(name, key, value)
    else:
        client.delete_registered_model_tag(name, key)
