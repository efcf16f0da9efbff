"""Image files, or their bytes -> uint8 RGB, upright; every reason why one cannot be read is an InputError."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from wssis.errors import InputError

MAX_PIXELS = 100_000_000
# PIL reads more, but not all of that is meant for files of unknown origin (EPS starts Ghostscript).
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000", "MPO")
_STDERR = threading.RLock()  # of two threads at once, one would put back what the other had put there
_TURNED = {5, 6, 7, 8}  # EXIF orientations that swap height and width


def leaves_folder(file_name: str) -> bool:
    """Whether `file_name` is absolute or climbs out of its folder (by its text: links are followed)."""
    plain = file_name.replace("\\", "/")
    windows = PureWindowsPath(file_name)
    return (
        "\0" in file_name
        or bool(windows.drive or windows.root)
        or os.path.isabs(plain)
        or os.path.normpath(plain).split("/")[0] == ".."
    )


def image_path(data_dir: str | Path, file_name: str) -> Path:
    """Path of an image of a data set.

    Raises:
        InputError: `file_name` is absolute or leaves `data_dir`.
    """
    if not file_name or leaves_folder(file_name):
        raise InputError(
            f"expected a file name inside the image folder, found {file_name!r}",
            where=data_dir,
            remedy="Use paths relative to the image folder, without '..'",
        )
    return Path(data_dir) / file_name


def read_image(data_dir: str | Path, file_name: str, expected_hw: tuple[int, int] | None = None) -> Tensor:
    """The upright RGB picture (3, H, W) uint8 of a file.

    EXIF orientation is applied. Gray, 1-bit, palette and CMYK pictures become RGB; what is transparent
    becomes white, as viewers show it. Gray pictures of more than 8 bits keep their zero and are scaled by
    the smallest of 8, 10, 12, 14, 16 bits that holds their brightest pixel (cameras of 12 bits write 16-bit
    files). Of several frames the first is read.

    Args:
        data_dir: folder of the data set's images.
        file_name: path in it.
        expected_hw: (H, W) that the annotations say.

    Raises:
        InputError: missing, outside the folder, no image, truncated, over 100 megapixels (found before
            decoding), or of other dimensions than `expected_hw`.
    """
    path = image_path(data_dir, file_name)
    with _opened(path) as image:
        _check_size(image, path, expected_hw)
        return _upright(image, path, "Copy the file again or take its record out of the annotations")


def decode_image(data: bytes, where: str = "image", max_pixels: int = MAX_PIXELS) -> Tensor:
    """The upright RGB picture (3, H, W) uint8 of a file's bytes, as `read_image` reads the file.

    Args:
        data: all bytes of an image file.
        where: what an error calls it.
        max_pixels: width times height, at most.

    Raises:
        InputError: no image, truncated, or over `max_pixels` (found before decoding).
    """
    with _decoder(data, where, max_pixels) as image:
        _check_size(image, where, None, max_pixels)
        return _upright(image, where, "Send the whole file")


def decoded_size(data: bytes, where: str = "image", max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Upright (H, W) from the header alone; raises as `decode_image`, but for damage after the header."""
    with _decoder(data, where, max_pixels) as image:
        return _check_size(image, where, None, max_pixels)


def check_image(
    data_dir: str | Path, file_name: str, expected_hw: tuple[int, int] | None = None
) -> tuple[int, int]:
    """Upright (H, W) from the header alone; raises as `read_image` does, but for damage after the header."""
    path = image_path(data_dir, file_name)
    with _opened(path) as image:
        return _check_size(image, path, expected_hw)


def read_header(data_dir: str | Path, file_name: str) -> tuple[tuple[int, int], int]:
    """Upright (H, W) of an image, and its EXIF orientation 1..8 (1: stored upright); as `check_image`."""
    path = image_path(data_dir, file_name)
    with _opened(path) as image:
        return _check_size(image, path, None), _orientation(image)


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of its picture before the pixels.

    Attributes:
        size: upright (H, W).
        orientation: EXIF's: 1 is upright, 3, 6 and 8 are turns of 180 and 90 degrees.
        traits: how it differs from 8-bit RGB, of `gray deep palette cmyk alpha frames`.
    """

    size: tuple[int, int]
    orientation: int
    traits: tuple[str, ...]


def image_header(data_dir: str | Path, file_name: str) -> Header:
    """As `check_image`, with what else the header says."""
    path = image_path(data_dir, file_name)
    with _opened(path) as image:
        size = _check_size(image, path, None)
        mode = image.mode
        known = {
            "grey": mode in ("1", "L", "LA", "La"),
            "deep": mode.startswith(("I", "F")),
            "palette": mode in ("P", "PA"),
            "cmyk": mode == "CMYK",
            "alpha": image.has_transparency_data,
            "frames": bool(getattr(image, "is_animated", False)),
        }
        return Header(size, _orientation(image), tuple(name for name, fits in known.items() if fits))


def image_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, its header read; without Pillow's warnings: what matters of them is an InputError."""
    try:
        # A file, not its path: Pillow maps uncompressed files it has the path of, and (13.0) scrambles
        # those of its turned TIFFs.
        file = open(path, "rb")  # noqa: SIM115 (closed below)
    except (FileNotFoundError, NotADirectoryError) as error:
        remedy = "Check file_name in the annotations" if path.parent.is_dir() else "Check the image folder"
        raise InputError("expected an image, found no such file", where=path, remedy=remedy) from error
    except (OSError, ValueError) as error:  # ValueError: a name that the file system cannot encode
        raise InputError(
            f"cannot be read ({error})",
            where=path,
            remedy="Check the path and its permissions",
        ) from error
    with file, _header(file, path, "Convert the file to PNG or copy it again", MAX_PIXELS) as image:
        yield image


@contextmanager
def _decoder(data: bytes, where: str, max_pixels: int) -> Iterator[Image.Image]:
    """As `_opened`. Anything but bytes is refused: nothing that was sent may be taken for a path."""
    if not isinstance(data, bytes):
        raise InputError(f"expected the bytes of an image file, found {type(data).__name__}", where=where)
    remedy = "Send the bytes of a PNG or JPEG file"
    with io.BytesIO(data) as file, _header(file, where, remedy, max_pixels) as image:
        yield image


@contextmanager
def _header(file: BinaryIO, where: str | Path, remedy: str, max_pixels: int) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise _too_large(where, str(error), max_pixels) from error
        except Exception as error:  # a header can be damaged in as many ways as the rest
            raise InputError(
                f"expected an image ({', '.join(FORMATS[:5])}, …), found something else or a damaged one",
                where=where,
                remedy=remedy,
            ) from error
        yield image


@contextmanager
def without_libtiff(image: Image.Image) -> Iterator[None]:
    """Nothing on the process's stderr while a TIFF is decoded: libtiff writes lines of its own there."""
    with _STDERR if image.format == "TIFF" else nullcontext():
        try:
            kept = os.dup(2) if image.format == "TIFF" else None
        except OSError:  # there is no stderr
            kept = None
        if kept is None:
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _upright(image: Image.Image, where: str | Path, remedy: str) -> Tensor:
    try:
        with without_libtiff(image):
            return _to_rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise InputError(
            f"expected a whole image, found one that is truncated or damaged ({error})",
            where=where,
            remedy=remedy,
        ) from error


def _check_size(
    image: Image.Image,
    path: str | Path,
    expected_hw: tuple[int, int] | None,
    max_pixels: int = MAX_PIXELS,
) -> tuple[int, int]:
    width, height = image.size
    if width * height > max_pixels:
        raise _too_large(path, f"{width} x {height}", max_pixels)
    turned = _orientation(image) in _TURNED
    if tags := getattr(image, "tag_v2", None):  # Pillow may have turned the size of a TIFF already
        width, height = tags.get(256, width), tags.get(257, height)
    size = (width, height) if turned else (height, width)
    if expected_hw is not None and size != tuple(expected_hw):
        stored = turned and (height, width) == tuple(expected_hw)
        raise InputError(
            f"expected {expected_hw[1]} x {expected_hw[0]} px as the annotations say, "
            f"found {size[1]} x {size[0]}{' after turning it upright (EXIF)' if turned else ''}",
            where=path,
            remedy="Annotate the upright picture, or remove the EXIF orientation from the file"
            if stored
            else "Correct width and height in the annotations, or put the annotated image there",
        )
    return size


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # damaged EXIF: read_image ignores it, too, or finds the file damaged
        found = image.getexif().get(ExifTags.Base.Orientation)
        return found if isinstance(found, int) and 1 <= found <= 8 else 1
    return 1


def _too_large(path: str | Path, found: str, max_pixels: int) -> InputError:
    return InputError(
        f"expected an image of at most {max_pixels / 1e6:g} megapixels, found {found}",
        where=path,
        remedy="Cut it into tiles",
    )


def _to_rgb(image: Image.Image) -> Tensor:
    if image.mode.startswith(("I", "F")):
        gray = _to_8_bits(np.asarray(image))
        return torch.from_numpy(gray).expand(3, -1, -1).contiguous()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    array = np.array(image.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _to_8_bits(gray: np.ndarray) -> np.ndarray:
    """(H, W) integers or floats (0…1 or as integers) -> uint8."""
    values = np.nan_to_num(gray.astype(np.float64), posinf=0.0, neginf=0.0).clip(min=0)
    top = values.max(initial=0.0)
    if gray.dtype.kind == "f" and top <= 1:
        return np.rint(values * 255).astype(np.uint8)
    limit = next((2.0**bits - 1 for bits in (8, 10, 12, 14, 16) if top < 2**bits), top)
    return np.rint(values * (255 / limit)).astype(np.uint8)
