"""Finds the image that a file speaks of: tools write paths of other machines, or leave suffixes out."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path, PurePosixPath

from wssis.data.images import leaves_folder
from wssis.errors import InputError
from wssis.files import atomic_path
from wssis.formats.records import LabeledImage

_MAGIC = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8", ".jpg"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"BM", ".bmp"),
)
_LONGEST = 60  # characters (240 bytes at most) of a name


class Embedded:
    """Writes the images into `folder`, which need not exist yet, under their own names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, tuple[str, bytes]] = {}  # what an annotation file calls it: file, hash
        self.taken: set[str] = set()

    def find(self, image: LabeledImage, where: str) -> str:
        """Write the image, unless that is done; its file in the folder.

        Raises:
            InputError: the annotation file holds none, or another one of this name came before.
        """
        if image.content is None:
            raise InputError(
                f"expected --images, found {image.file!r}, which is no part of the file",
                where=where,
                record=image.record,
                remedy="Name the folder of the images",
            )
        name = image.file.replace("\\", "/")
        digest = hashlib.sha256(image.content).digest()
        if name in self.files:
            file, before = self.files[name]
            if before != digest:
                raise InputError(
                    f"expected one image of a name, found another {image.file!r}",
                    where=where,
                    record=image.record,
                    remedy="Import them apart, or name the folder of the images (--images)",
                )
            return file
        file = self._free(name, image.content)
        self.taken.add(file.lower())
        self.files[name] = file, digest
        with atomic_path(self.folder / file) as temporary:
            temporary.write_bytes(image.content)
        return file

    def _free(self, name: str, content: bytes) -> str:
        """A file name, like `name`, that is not taken, whatever the file system thinks of case."""
        last = name.rstrip("/").rpartition("/")[2]
        plain = "".join(sign if sign.isprintable() and sign not in '<>:"|?*' else "_" for sign in last)
        path = PurePosixPath(plain.lstrip(".") or "image")
        stem, suffix = path.stem, path.suffix
        if suffix.lower() not in SUFFIXES:
            stem = f"{stem}{suffix}"
            suffix = next((end for magic, end in _MAGIC if content.startswith(magic)), ".img")
        stem = stem[-_LONGEST:]
        number, file = 1, f"{stem}{suffix}"
        while file.lower() in self.taken:
            number += 1
            file = f"{stem}-{number}{suffix}"
        return file


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
