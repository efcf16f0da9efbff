"""Label images, as cellpose and StarDist write them: a picture whose numbers are objects.

A file (or each file of a folder, not of those in it) is a PNG or TIFF of one channel, as large as its image:
0 is background, every other value one object, also where its pixels are apart. 8, 16 and 32 bits, floats that
are whole numbers, and the indices of a palette are read; pictures of colors or several pages are refused.

The image's name is the file's without its ending and without `_cp_masks`, `_masks`, `_mask`, `_labels` or
`_label`. Where a folder has files with such an end, only these are read: cellpose writes its masks beside
the images. Its `_seg.npy` is a pickle, which can run code, and is never opened. Objects have no class in
such files; they get `Options.name`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from wssis.errors import InputError
from wssis.formats.label_pixels import SUFFIXES, objects, read_labels
from wssis.formats.records import Label, LabeledImage, Options

ENDS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")


def read(source: Path, options: Options) -> Iterator[LabeledImage]:
    """The image of every label image; see the module."""
    found: dict[str, Path] = {}
    for path in _files(source):
        name = _image_name(path)
        if name in found:
            raise InputError(
                f"expected one label image of {name!r}, found {found[name].name} as well",
                where=path,
                remedy="Keep one of the two",
            )
        found[name] = path
    for name, path in found.items():
        labels = read_labels(path)
        height, width = labels.shape
        yield LabeledImage(
            file=name,
            labels=tuple(
                Label(name=options.name, record=f"value {value}", rle=rle)
                for value, rle in objects(labels, path)
            ),
            size=(height, width),
            where="" if path == source else str(path),
        )


def _files(source: Path) -> list[Path]:
    try:
        inside = sorted(source.iterdir()) if source.is_dir() else [source]
        inside = [path for path in inside if path.is_file() and not path.name.startswith(".")]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read ({error})", where=source) from error
    pickles = [path for path in inside if path.suffix.lower() in (".npy", ".npz")]
    pictures = [path for path in inside if path.suffix.lower() in SUFFIXES]
    if not source.is_dir() and not pickles:
        return [source]
    if not pictures:
        raise InputError(
            "expected label images as PNG or TIFF, found "
            + (
                f"{pickles[0].name}: NumPy files of cellpose are pickles, which can run code"
                if pickles
                else "none"
            ),
            where=source,
            remedy="Save masks as PNG or TIFF (cellpose: Ctrl+N, or --save_png, --save_tif)",
        )
    return [path for path in pictures if path.stem.lower().endswith(ENDS)] or pictures


def _image_name(path: Path) -> str:
    """The stem without its end; the stem where it is nothing else."""
    end = next((end for end in ENDS if path.stem.lower().endswith(end)), "")
    return path.stem[: len(path.stem) - len(end)] or path.stem
