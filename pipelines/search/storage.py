"""Optuna storages: a journal file, PostgreSQL, or a gRPC proxy in front of one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from optuna import Study
from optuna.storages import (
    BaseStorage,
    GrpcStorageProxy,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
)
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial

from pipelines import paths
from pipelines.console.ports import check_free
from wssis.errors import InputError

GRPC_WAIT_S = 10.0
HEARTBEAT_S = 30
GRACE_S = 150  # without a heartbeat, after which another worker retries the trial
TABLES_LOCK = 0x77737369  # an advisory lock's number that no other program of the server uses
RECORD = "optuna.storage"
DEFAULTS = "defaults"  # user attribute of a trial of the defaults


def open_storage(place: str | None) -> BaseStorage:
    """Open the storage that `optuna.storage` names.

    Args:
        place: None: the journal file in the project's scratch folder; a path: a journal file; or
            `postgresql://user@host/database`, `grpc://host:port`.

    Raises:
        InputError: the storage cannot be opened, or a package for it is missing.
    """
    if place is None or "://" not in place:
        return _journal(paths.project_root() / (paths.OPTUNA_JOURNAL if place is None else place))
    scheme = place.split("://", 1)[0]
    try:
        url = urlsplit(place)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise _invalid(f"expected a URL, found {place} ({error})", "Fix the URL") from error
    if url.password:
        raise _invalid(
            "expected a URL without a password: Git and MLflow store params.yaml in plain text",
            "Put the password into ~/.pgpass or the variable PGPASSWORD",
        )
    if scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql(place[len(scheme) :])
    if scheme != "grpc":
        raise _invalid(
            f"expected null, a path, postgresql:// or grpc://, found {scheme}://",
            "On one machine, name a path for a journal file (SQLite fails with several workers)",
        )
    if not host or not port:
        raise _invalid(f"expected grpc://HOST:PORT, found {place}", "Name host and port of the proxy")
    return _grpc(host, port)


def retry(study: Study, trial: FrozenTrial) -> None:
    """Queue a failed trial again with its values, from its first step."""
    keep = ("fixed_params", "failed_trial", "retry_history")  # not the pruner's notes on its progress
    trial.system_attrs = {name: value for name, value in trial.system_attrs.items() if name in keep}
    trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if name == DEFAULTS}
    RetryHeartbeatStaleTrialCallback()(study, trial)


def _invalid(problem: str, remedy: str) -> InputError:
    return InputError(problem, where=paths.PARAMS, record=RECORD, remedy=remedy)


def _journal(path: Path) -> BaseStorage:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        lock = JournalFileSymlinkLock(str(path))  # writers hold it; it breaks a lock older than 30 s
        lock.acquire()
        try:
            with open(path, "rb+") as file:
                # A half line of a killed writer would spoil the line that is appended to it.
                file.seek(max(0, file.seek(0, os.SEEK_END) - 2**20))
                tail = file.read()
                file.truncate(file.tell() - len(tail) + tail.rfind(b"\n") + 1)
        finally:
            lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (OSError, ValueError, LookupError, TypeError, AssertionError) as error:
        raise InputError(
            f"expected an Optuna journal file, found: {error}",
            where=path,
            remedy="Move the file away, or name another one as optuna.storage",
        ) from error


def _postgresql(address: str) -> BaseStorage:
    try:
        import psycopg
    except ImportError as error:
        raise _missing("psycopg", "postgresql", RECORD) from error
    from sqlalchemy.exc import SQLAlchemyError

    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # an unreachable host blocks for minutes otherwise
    try:
        # Without the lock, workers that start together on a new database all create its tables; one succeeds.
        with psycopg.connect(f"postgresql{address}", autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", (TABLES_LOCK,))
            return RDBStorage(
                f"postgresql+psycopg{address}",
                heartbeat_interval=HEARTBEAT_S,
                grace_period=GRACE_S,
                heartbeat_stale_trial_callback=retry,
            )
    except (SQLAlchemyError, psycopg.Error, ValueError) as error:
        message = re.sub(r"\s+", " ", str(getattr(error, "orig", None) or error)).split(" (Background")[0]
        raise _invalid(
            f"cannot use the PostgreSQL server: {message[:300]}",
            "Start the server, create the database (createdb), check user and host",
        ) from error


def _grpc(host: str, port: int) -> BaseStorage:
    try:
        import grpc  # noqa: F401
    except ImportError as error:
        raise _missing("grpcio", "grpc", RECORD) from error
    storage = GrpcStorageProxy(host=host, port=port)
    try:
        storage.wait_server_ready(GRPC_WAIT_S)
    except ConnectionError as error:
        raise _invalid(
            f"Optuna's gRPC proxy at {host}:{port} does not answer within {GRPC_WAIT_S:.0f} s",
            "Start it (see docs/tuning.md), or check host and port",
        ) from error
    return storage


def _missing(package: str, extra: str, where: str) -> InputError:
    return InputError(
        f"package {package} is not installed",
        where=where,
        remedy=f"pip install --constraint constraints.txt --editable '.[{extra}]'",
    )


def serve_dashboard(place: str | None, port: int) -> None:
    """Serve optuna-dashboard for a storage at 127.0.0.1 until interrupted.

    Raises:
        InputError: the storage cannot be opened, optuna-dashboard is missing, or the port is taken.
    """
    try:
        import optuna_dashboard
    except ImportError as error:
        raise _missing("optuna-dashboard", "dashboard", "wssis tune --dashboard") from error
    storage = open_storage(place)
    check_free(port)
    print(f"http://127.0.0.1:{port} shows {place or paths.OPTUNA_JOURNAL}; Ctrl-C ends it", flush=True)
    optuna_dashboard.run_server(storage, host="127.0.0.1", port=port)
