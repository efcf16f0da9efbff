"""Folders of one picture a mask, as in the Data Science Bowl 2018 (stage1_train).

    SOURCE/<id>/images/<id>.png    the image, the only file there
    SOURCE/<id>/masks/*.png        one file an object

SOURCE may also be one `<id>`. A mask (PNG or TIFF, gray, 1-bit, palette, RGB or RGBA) is as large as the
others of its image; what is neither black nor transparent belongs to the object. Masks may overlap, and a
mask may be empty. An empty folder `masks` says that the image shows no object; an `<id>` without that folder
is not labeled and is left out. Classes are not said: objects get `Options.name`. The run lengths of
`stage1_solution.csv` are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wssis.data import rle as rle_api
from wssis.errors import InputError
from wssis.formats.label_pixels import read_foreground
from wssis.formats.records import Label, LabeledImage, Options, Unlabeled

_LAYOUT = "Lay the folders out as <id>/images/<id>.png and <id>/masks/*.png"
_LEFT_BEHIND = {"thumbs.db", "desktop.ini"}


def read(source: Path, options: Options) -> Iterator[LabeledImage | Unlabeled]:
    """The image of every folder that has `masks`, and what has none; see the module."""
    if _is_folder(source / "masks"):
        folders = [source]
    else:
        folders = [
            path for path in _inside(source) if any(map(_is_folder, (path / "masks", path / "images")))
        ]
    if not any(_is_folder(folder / "masks") for folder in folders):
        raise InputError("expected folders with masks, found none", where=source, remedy=_LAYOUT)
    for folder in folders:
        if not _is_folder(folder / "masks"):
            yield Unlabeled("folders without masks, left out", folder.name)
            continue
        images = [path for path in _inside(folder / "images") if path.is_file()]
        if len(images) != 1:
            raise InputError(
                f"expected one image, found {len(images)}", where=folder / "images", remedy=_LAYOUT
            )
        yield _read(folder, images[0].relative_to(source).as_posix(), options)


def _read(folder: Path, file: str, options: Options) -> LabeledImage:
    size: tuple[int, int] | None = None
    labels = []
    for path in _inside(folder / "masks"):
        mask = read_foreground(path)
        if mask.shape != (size or mask.shape):
            raise InputError(
                f"expected {size[1]} x {size[0]} px as the first mask, "  # type: ignore[index]
                f"found {mask.shape[1]} x {mask.shape[0]}",
                where=path,
                remedy="Save all masks of an image in its size",
            )
        size = (mask.shape[0], mask.shape[1])
        labels.append(Label(name=options.name, record=path.name, rle=rle_api.encode(mask[None])[0]))
    first = labels[0].record if labels else ""  # its size is the one that the image has to have
    return LabeledImage(file, tuple(labels), size, record=first, where=str(folder / "masks"))


def _inside(folder: Path) -> list[Path]:
    """What a person put there, by name."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name.lower() not in _LEFT_BEHIND
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", where=folder, remedy=_LAYOUT) from error


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that the file system cannot encode
        return False
