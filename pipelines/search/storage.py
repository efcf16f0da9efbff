"""Where searches are kept: a journal file, a database, or a gRPC proxy before one."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines import paths
from pipelines.console.ports import check_free
from wssis.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

GRPC_WAIT_S = 10.0
TABLES_LOCK = 0x77737369  # any number that other programs of the server do not use
WHERE = "params.yaml"
RECORD = "optuna.storage"


def open_storage(place: str | None) -> BaseStorage:
    """The storage that `optuna.storage` names.

    Args:
        place: None: the journal file in the project's scratch folder; a path: a journal file; or
            `postgresql://user@host/database`, `grpc://host:port`.

    Raises:
        InputError: the place cannot be used, or a package for it is missing.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    if place is None or "://" not in place:
        return _journal(paths.project_root() / (paths.OPTUNA_JOURNAL if place is None else place))
    scheme = place.split("://", 1)[0]
    try:
        url = urlsplit(place)
        port, password, host = url.port, url.password, url.hostname
    except ValueError as error:
        raise _wrong(f"expected a URL, found {place} ({error})", "Mend the URL") from error
    if password:
        raise _wrong(
            "expected a URL without a password, since params.yaml is kept by git and shown in MLflow",
            "Put the password into ~/.pgpass or the variable PGPASSWORD",
        )
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql("postgresql+psycopg" + place[len(scheme) :])
    if scheme == "grpc":
        if not host or not port:
            raise _wrong(f"expected grpc://HOST:PORT, found {place}", "Name host and port of the proxy")
        return _grpc(host, port)
    raise _wrong(
        f"expected null, a path, postgresql:// or grpc://, found {scheme}://",
        "Use a path, which is a journal file, on one machine (SQLite fails with several workers)",
    )


def _wrong(problem: str, remedy: str) -> InputError:
    return InputError(problem, where=WHERE, record=RECORD, remedy=remedy)


def _journal(path: Path) -> BaseStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileSymlinkLock(str(path))  # what every writer holds; a dead one's is broken after 30 s
        lock.acquire()
        try:
            _drop_torn_line(path)
        finally:
            lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (OSError, ValueError, LookupError, TypeError, AssertionError) as error:
        raise InputError(
            f"expected a journal file of Optuna, found: {error}",
            where=path,
            remedy="Move the file away, or name another one as optuna.storage",
        ) from error


def _drop_torn_line(path: Path) -> None:
    """Cut off what a process wrote of its last line when it was killed, or the next line would be spoilt."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        file.seek(max(0, end - 2**20))
        tail = file.read()
        file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)


def _postgresql(url: str) -> BaseStorage:
    try:
        import psycopg
    except ImportError as error:
        raise _missing("psycopg", "postgresql") from error
    from optuna.storages import get_storage
    from sqlalchemy.exc import SQLAlchemyError

    # Else a host that does not answer is waited for, for minutes.
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")
    try:
        # Of several that come first to a new database, all would make the tables, and all but one fail.
        with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (TABLES_LOCK,))
            return get_storage(url)
    except (SQLAlchemyError, psycopg.Error, ValueError) as error:
        said = re.sub(r"\s+", " ", str(getattr(error, "orig", None) or error)).split(" (Background")[0]
        raise _wrong(
            f"expected a PostgreSQL server, found: {said[:300]}",
            "Start the server, make the database (createdb) and check user and host",
        ) from error


def _grpc(host: str, port: int) -> BaseStorage:
    try:
        import grpc  # noqa: F401
    except ImportError as error:
        raise _missing("grpcio", "grpc") from error
    from optuna.storages import GrpcStorageProxy

    storage = GrpcStorageProxy(host=host, port=port)
    try:
        storage.wait_server_ready(GRPC_WAIT_S)
    except ConnectionError as error:
        raise _wrong(
            f"expected Optuna's gRPC proxy at {host}:{port}, found none within {GRPC_WAIT_S:.0f} s",
            "Start it (docs/tuning.md says how), or check host and port",
        ) from error
    return storage


def _missing(package: str, extra: str) -> InputError:
    return InputError(
        f"expected the package {package}, found none",
        where=RECORD,
        remedy=f"pip install --constraint constraints.txt --editable '.[{extra}]'",
    )


def serve_dashboard(place: str | None, port: int) -> None:
    """Show the studies of a storage at 127.0.0.1, until interrupted.

    Raises:
        InputError: the storage cannot be used, optuna-dashboard is missing, or the port is taken.
    """
    try:
        import optuna_dashboard
    except ImportError as error:
        raise InputError(
            "expected the package optuna-dashboard, found none",
            where="wssis tune --dashboard",
            remedy="pip install --constraint constraints.txt --editable '.[dashboard]'",
        ) from error
    storage = open_storage(place)
    check_free(port)
    print(f"http://127.0.0.1:{port} shows {place or paths.OPTUNA_JOURNAL}; Ctrl+C ends it", flush=True)
    optuna_dashboard.run_server(storage, host="127.0.0.1", port=port)
