"""Images that annotation files hold, as files of a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from wssis.data.formats.labels import LabelledImage
from wssis.data.formats.locate import SUFFIXES
from wssis.errors import InputError
from wssis.files import atomic_path

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

    def find(self, image: LabelledImage, where: str) -> str:
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
