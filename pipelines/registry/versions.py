"""Versions in MLflow's registry: what is known of them, and the aliases that say which one is used."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.config.params import read_yaml
from pipelines.registry.register import CONTENT_TAG, local_folder
from pipelines.tracking.store import open_store, store_place
from wssis.errors import InputError

URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<number>[0-9]+))")


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        name, number: of the model, and of its version.
        aliases: those that point at it, sorted.
        created: when it was registered.
        run_id: the run of the stage register.
        tags: as they were registered, and what promotions added.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    created: datetime
    run_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """As MLflow and every command take it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def content(self) -> str:
        """Hash of what it consists of."""
        return self.tags.get(CONTENT_TAG, "")

    @property
    def files(self) -> Path:
        """The folder of the networks; from a server they come each time."""
        return local_folder(self.uri)

    @property
    def folder(self) -> Path:
        """The folder of everything that MLflow keeps of it, `code/` among it."""
        return self.files.parent.parent

    @property
    def signature(self) -> Any:
        """What it takes, as MLflow noted it: plain values."""
        noted = read_yaml(self.folder / "MLmodel").get("signature") or {}
        return {key: json.loads(value) if value else None for key, value in noted.items()}


def versions(name: str) -> list[Version]:
    """Every version of a model, the newest first; none if nothing was registered by that name."""
    pointing = aliases(name)
    found = [
        Version(
            name,
            int(item.version),
            tuple(sorted(alias for alias, number in pointing.items() if number == int(item.version))),
            datetime.fromtimestamp(item.creation_timestamp / 1000, UTC),
            item.run_id or "",
            dict(item.tags),
        )
        for item in open_store().search_model_versions(f"name = '{name}'")
    ]
    return sorted(found, key=lambda version: -version.number)


def find(name: str, wanted: int | str) -> Version:
    """The version of a number, or under an alias.

    Raises:
        InputError: there is none; the line names those that are there.
    """
    known = versions(name)
    for version in known:
        if wanted == version.number or wanted in version.aliases:
            return version
    numbers = ", ".join(str(version.number) for version in reversed(known))
    what = f"version {wanted}" if isinstance(wanted, int) else f"a version under the alias {wanted}"
    raise InputError(
        f"expected {what}, found {f'versions {numbers}' if known else 'none'}",
        where=f"models:/{name}",
        record=store_place(),
        remedy=_remedy(wanted) if known else "`dvc repro` registers one",
    )


def _remedy(wanted: int | str) -> str:
    listed = "`wssis models` lists them"
    return f"{listed}, `wssis promote` puts one into production" if wanted == "production" else listed


def find_uri(uri: str) -> Version:
    """The version that `models:/name/3` or `models:/name@alias` means.

    Raises:
        InputError: it is written otherwise, or there is no such version.
    """
    parts = URI.fullmatch(uri)
    if parts is None:
        raise InputError(
            f"expected a registered model, found {uri}", remedy="Write models:/wssis-student@production"
        )
    return find(parts["name"], parts["alias"] or int(parts["number"]))


def aliases(name: str) -> dict[str, int]:
    """{alias: version} of a model."""
    found = open_store().search_registered_models(f"name = '{name}'")
    return {alias: int(number) for alias, number in found[0].aliases.items()} if found else {}


def set_alias(name: str, alias: str, number: int) -> None:
    """Point an alias at a version, in one step."""
    open_store().set_registered_model_alias(name, alias, str(number))


def tag(name: str, number: int, tags: Mapping[str, Any]) -> None:
    """Note facts on a version."""
    client = open_store()
    for key, value in tags.items():
        client.set_model_version_tag(name, str(number), key, str(value))


def note(name: str, key: str) -> str:
    """What is noted on a model itself, "" if nothing is."""
    found = open_store().search_registered_models(f"name = '{name}'")
    return found[0].tags.get(key, "") if found else ""


def set_note(name: str, key: str, value: str) -> None:
    """Note something on a model itself; "" takes it away."""
    client = open_store()
    if value:
        client.set_registered_model_tag(name, key, value)
    else:
        client.delete_registered_model_tag(name, key)
