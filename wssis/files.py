"""Reading, and atomic writes: a reader sees the old file or the new one, never a partial one."""

from __future__ import annotations

import gc
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wssis.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it over `path`.

    On error the temporary file is removed and `path` is unchanged.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix)
        os.close(handle)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", where=target) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(
            f"cannot be written ({error.strerror or error})",
            where=target,
            remedy="Free some space or check the folder's permissions; nothing was changed",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("expected a file, found none", where=path, remedy="Check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a name that the file system cannot encode
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read ({reason})", where=path) from error


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | Path, value: Any, *, indent: int | None = None) -> None:
    """Write `value` as JSON to `path` atomically; keys keep their order, NaN raises ValueError."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of any device to `path` (safetensors) atomically."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(held, temporary)
        except SafetensorError as error:  # for example a full disk
            raise OSError(str(error)) from error


def append_line(path: str | Path, line: str) -> None:
    """Append `line` (UTF-8, without line breaks) to `path` and sync it.

    A partial last line, left by a killed process, is terminated first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        if file.tell() and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n":
            line = f"\n{line}"
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Disable the cyclic garbage collector.

    For code that creates millions of records and no cycles, where repeated collections take half the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
