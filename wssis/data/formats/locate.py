"""Finds the image that a file speaks of: tools write paths of other machines, or leave suffixes out."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path, PurePosixPath

from wssis.data.images import leaves_folder
from wssis.errors import InputError

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k", ".jpx")
_OTHERS = (".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
SUFFIXES = frozenset(_JPEG + _OTHERS)


class Locator:
    """The images of a folder, by what annotation files call them.

    A name is found as a path in the folder; else as the one image whose path ends like it (the longest common
    end wins); else as the one image of its name without suffix.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = str(folder)
        if not os.path.isdir(self.folder):
            raise InputError("expected a folder of images, found none", where=folder, remedy="Check --images")

    def find(self, name: str) -> list[str]:
        """Paths in the folder, with `/`, that `name` may mean: one if all is well."""
        by_name, by_stem, known = self._index
        if name in known:
            return [name]
        plain = name.replace("\\", "/").removeprefix("file://")
        try:
            if plain and not leaves_folder(plain) and os.path.isfile(f"{self.folder}/{plain}"):
                return [os.path.normpath(plain)]
        except ValueError:
            return []
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if not parts:
            return []
        if parts[-1] in by_name:
            return _closest(by_name[parts[-1]], parts)
        stem = parts[-1]
        if PurePosixPath(stem).suffix.lower() in SUFFIXES:
            stem = PurePosixPath(stem).stem
        return _closest(by_stem.get(stem, []), parts)

    @cached_property
    def _index(self) -> tuple[dict[str, list[str]], dict[str, list[str]], set[str]]:
        """Paths of all images by their name, by their name without suffix, and as they are."""
        by_name: dict[str, list[str]] = {}
        by_stem: dict[str, list[str]] = {}
        for folder, folders, names in os.walk(self.folder):
            folders.sort()
            inside = os.path.relpath(folder, self.folder)
            for name in sorted(names):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in SUFFIXES:
                    path = name if inside == "." else f"{inside}/{name}"
                    by_name.setdefault(name, []).append(path)
                    by_stem.setdefault(stem, []).append(path)
        return by_name, by_stem, {path for paths in by_name.values() for path in paths}


def _closest(paths: list[str], parts: list[str]) -> list[str]:
    """Those with the longest end in common with `parts`, whatever the last part's suffix."""
    if len(paths) < 2:
        return paths

    def common(path: str) -> int:
        folders = zip(reversed(path.split("/")[:-1]), reversed(parts[:-1]), strict=False)
        count = 0
        for ours, theirs in folders:
            if ours != theirs:
                break
            count += 1
        return count

    lengths = [common(path) for path in paths]
    return [path for path, length in zip(paths, lengths, strict=True) if length == max(lengths)]
