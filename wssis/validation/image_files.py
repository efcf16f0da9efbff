"""The image files: there, readable, of the size that the annotations say, upright, and each only once."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wssis.data.coco_fields import Picture
from wssis.data.coco_reader import CocoDocument, Problem
from wssis.data.images import image_digest, image_header, read_image
from wssis.errors import InputError
from wssis.validation.problems import problems_by_kind

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".jp2"}
_CHUNK = 500
_ALONE = 3000  # files up to which other processes would take longer to start than they save
_TAIL = 4096


@dataclass(frozen=True, slots=True)
class File:
    """What is known of an image file.

    Attributes:
        problem: why it cannot be read, or "".
        missing: whether there is no such file.
        size: upright (H, W) in pixels.
        orientation: EXIF's, 1..8.
        traits: kinds of notes that fit it: gray, deep, palette, cmyk, alpha, frames.
        length: in bytes.
        tail: digest of its end; files that differ mostly differ there.
    """

    problem: str = ""
    missing: bool = False
    size: tuple[int, int] = (0, 0)
    orientation: int = 1
    traits: tuple[str, ...] = ()
    length: int = 0
    tail: bytes = b""


Files = dict[str, File]


def start_reading(folder: str, names: Iterable[str], whole: bool) -> Callable[[], Files]:
    """Begin to look at image files, in other processes if there are many; call what is returned for them.

    Args:
        folder: of the images.
        names: paths in it.
        whole: decode them, too; otherwise damage after the header stays unseen.
    """
    wanted = list(dict.fromkeys(names))
    if len(wanted) <= _ALONE:
        return lambda: _look_at(folder, wanted, whole)
    context = multiprocessing.get_context("spawn")  # a fork would copy the annotations page by page
    executor: Executor = ProcessPoolExecutor(min(4, os.cpu_count() or 1), mp_context=context)
    chunks = [wanted[start : start + _CHUNK] for start in range(0, len(wanted), _CHUNK)]
    futures: list[Future[Files]] = [executor.submit(_look_at, folder, chunk, whole) for chunk in chunks]

    def gather() -> Files:
        with executor:
            return {name: file for future in futures for name, file in future.result().items()}

    return gather


def _look_at(folder: str, names: list[str], whole: bool) -> Files:
    return {name: _file(folder, name, whole) for name in names}


def _file(folder: str, name: str, whole: bool) -> File:
    path = Path(folder) / name
    try:
        header = image_header(folder, name)
        if whole:
            read_image(folder, name)
        with open(path, "rb") as file:
            length = os.fstat(file.fileno()).st_size
            file.seek(max(0, length - _TAIL))
            tail = hashlib.blake2b(file.read(), digest_size=8).digest()
    except InputError as error:
        return File(error.problem, missing=not os.path.exists(path))
    except OSError as error:
        return File(f"cannot be read ({error.strerror})")
    return File("", False, header.size, header.orientation, header.traits, length, tail)


def examine_pictures(document: CocoDocument, files: Files, folder: str) -> list[Problem]:
    """Problems of the images of a document, given what is known of their files."""
    problems: list[Problem] = []
    for picture in document.pictures:
        problems += _picture(picture, files[picture.file_name])
    missing = problems_by_kind(problems).get("missing-image", [])
    if missing and len(missing) == len(document.pictures):
        detail = "none of the images is in it" if os.path.isdir(folder) else "no such folder"
        return [Problem("no-folder", str(folder), detail)]
    return problems + _twice(document, files, folder) + _by_case(document)


def listing(folder: str) -> set[str]:
    """Image files in a folder and those below it, as paths in it, by their suffix."""
    found = set()
    for root, _, names in os.walk(folder):
        inside = os.path.relpath(root, folder).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        found |= {prefix + name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES}
    return found


def unlisted(document: CocoDocument, present: set[str]) -> list[Problem]:
    """Image files that the document does not list."""
    known = {os.path.normpath(picture.file_name.replace("\\", "/")) for picture in document.pictures}
    return [Problem("unlisted", name) for name in sorted(present - known)]


def _picture(picture: Picture, file: File) -> list[Problem]:
    def problem(kind: str, detail: str = "") -> Problem:
        return Problem(kind, f"image {picture.id}", detail, picture.file_name, picture.place)

    if file.problem:
        return [problem("missing-image" if file.missing else "unreadable-image", file.problem)]
    found = [problem(trait) for trait in file.traits]
    if file.orientation != 1:
        found.append(problem("exif", f"orientation {file.orientation}"))
    said, upright = (picture.height, picture.width), file.size
    if picture.height and said != upright:
        detail = f"file {upright[1]} x {upright[0]}, annotations {said[1]} x {said[0]}"
        lying = file.orientation in (5, 6, 7, 8) and said == upright[::-1]
        found.append(problem("exif-size" if lying else "size-differs", detail))
    return found


def _twice(document: CocoDocument, files: Files, folder: str) -> list[Problem]:
    """Files of equal length and end are read whole."""
    alike: dict[tuple[int, bytes], list[int]] = {}
    for row, picture in enumerate(document.pictures):
        file = files[picture.file_name]
        if not file.problem:
            alike.setdefault((file.length, file.tail), []).append(row)
    problems, digests = [], {}
    for rows in alike.values():
        if len(rows) < 2:
            continue
        first: dict[str, int] = {}
        for row in rows:
            picture = document.pictures[row]
            name = picture.file_name
            if name not in digests:
                digests[name] = image_digest(Path(folder) / name)
            earlier = document.pictures[first.setdefault(digests[name], row)]
            if earlier is not picture:
                same = "the same file" if earlier.file_name == name else "the same content"
                detail = f"{same} as image {earlier.id} ({earlier.file_name})"
                problems.append(
                    Problem("same-image", f"image {picture.id}", detail, name, picture.place, earlier.place)
                )
    return problems


def _by_case(document: CocoDocument) -> list[Problem]:
    names: dict[str, Picture] = {}
    problems = []
    for picture in document.pictures:
        earlier = names.setdefault(picture.file_name.casefold(), picture)
        if earlier.file_name != picture.file_name:
            detail = f"as {earlier.file_name}: one file on Windows and macOS"
            problems.append(
                Problem(
                    "same-name",
                    f"image {picture.id}",
                    detail,
                    picture.file_name,
                    picture.place,
                    earlier.place,
                )
            )
    return problems
