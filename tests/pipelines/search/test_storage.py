"""Storages: one-line errors, a torn journal, a real PostgreSQL, a gRPC proxy."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.search import storage
from pipelines.search.storage import open_storage
from pipelines.search.study import finished, open_study, run_trials
from tests.pipelines.search.test_study import lines, start
from tests.pipelines.search.toy_worker import DEFAULTS, toy_search
from tests.pipelines.serving.servers import free_port
from wssis.errors import InputError


def refused(place: str) -> str:
    with pytest.raises(InputError) as caught:
        open_storage(place)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("sqlite:///a.db", ("optuna.storage", "sqlite://", "journal file")),
        ("redis://localhost", ("redis://",)),
        ("postgresql://me:secret@localhost/db", ("without a password", "pgpass")),
        ("postgresql://localhost:x/db", ("Fix the URL",)),
        ("grpc://localhost", ("grpc://HOST:PORT",)),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line(place: str, words: tuple[str, ...]) -> None:
    message = refused(place)
    assert all(word in message for word in words)
    assert "secret" not in message


def test_a_server_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    assert "cannot use the PostgreSQL server" in refused(f"postgresql://me@127.0.0.1:{free_port()}/db")
    pytest.importorskip("grpc")
    monkeypatch.setattr(storage, "GRPC_WAIT_S", 0.2)
    assert "does not answer within 0 s" in refused(f"grpc://127.0.0.1:{free_port()}")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, place, extra in (
        ("psycopg", "postgresql://h/d", "postgresql"),
        ("grpc", "grpc://h:1", "grpc"),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        assert f"'.[{extra}]'" in refused(place)
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(InputError, match=r"'\.\[dashboard\]'"):
        storage.serve_dashboard(None, 1)


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    for text in ("no journal\nat all\n", '{"a": 1}\n', "[]\n"):
        (tmp_path / "j").write_text(text)
        assert "Optuna journal file" in refused(str(tmp_path / "j"))
        assert (tmp_path / "j").read_text() == text
    assert "journal file" in refused(str(tmp_path))


def test_half_a_line_of_a_killed_writer_is_cut_off(tmp_path: Path) -> None:
    journal = tmp_path / "deep" / "journal"
    run_trials(toy_search(2), open_storage(str(journal)))
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "worker_id": "a", "study')
    assert len(finished(run_trials(toy_search(3), open_storage(str(journal))))) == 3
    assert journal.read_bytes().startswith(whole)
    assert b'"study\n' not in journal.read_bytes()


def postgres_words() -> tuple[Path, str | None]:
    """Folder of the server's programs and the user who may run it; skips where there is none."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install '.[postgresql]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    if not found:
        pytest.skip("no PostgreSQL server: apt-get install postgresql")
    if os.geteuid():
        return found[-1].parent, None
    try:
        return found[-1].parent, pwd.getpwnam("postgres").pw_name  # the server refuses to run as root
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")


@pytest.fixture
def postgresql() -> Iterator[str]:
    """URL of a database on a server of its own."""
    programs, user = postgres_words()
    folder = Path(subprocess.check_output(["mktemp", "-d"], user=user, text=True).strip())
    port, log = free_port(), folder / "log"

    def run(*words: object) -> None:
        command = [str(programs / str(words[0])), *map(str, words[1:])]
        subprocess.run(command, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-D", folder / "data", "-U", "wssis", "--auth=trust", "--no-sync")
        options = f"-p {port} -k {folder} -h 127.0.0.1 -F"
        run("pg_ctl", "-D", folder / "data", "-l", log, "-w", "-o", options, "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", port, "-U", "wssis", "optuna")
            yield f"postgresql://wssis@127.0.0.1:{port}/optuna"
        finally:
            run("pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_workers_share_a_real_postgresql_and_one_is_killed(postgresql: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    open_study(toy_search(8), open_storage(postgresql))
    workers = [start(postgresql, log, 8, 0.3, 2) for _ in range(2)]
    own = f"start {workers[0].pid} "
    until = time.monotonic() + 60
    while not log.exists() or log.read_text().count(own) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    workers[0].kill()  # its second trial has just begun
    assert workers[1].wait(60) == 0
    workers[0].wait()
    ended = lines(log, "end")
    assert len(ended) == len(set(ended)) == 8
    assert len(finished(run_trials(toy_search(8), open_storage(postgresql)))) == 8


@pytest.mark.slow
def test_a_machine_without_a_heartbeat_is_replaced(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "HEARTBEAT_S", 1)
    monkeypatch.setattr(storage, "GRACE_S", 2)
    database = open_storage(postgresql)
    trial = open_study(toy_search(1), database).ask()
    trial.set_user_attr("wssis.process", "elsewhere:17")
    database.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    time.sleep(4)
    study = run_trials(toy_search(1), database)
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE"]
    assert study.trials[1].params == DEFAULTS


@pytest.mark.slow
def test_a_grpc_proxy_before_postgresql(postgresql: str, tmp_path: Path) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed: pip install '.[grpc]'")
    port = free_port()
    script = (
        "import sys\nfrom optuna.storages import run_grpc_proxy_server\n"
        "from pipelines.search.storage import open_storage\n"
        "run_grpc_proxy_server(open_storage(sys.argv[1]), host='127.0.0.1', port=int(sys.argv[2]))\n"
    )
    server = subprocess.Popen([sys.executable, "-c", script, postgresql, str(port)])
    try:
        study = run_trials(toy_search(4), open_storage(f"grpc://127.0.0.1:{port}"))
        trials = finished(study)
    finally:
        server.kill()
        server.wait()
    assert len(trials) == 4
    assert finished(run_trials(toy_search(4), open_storage(postgresql))) == trials


def test_the_dashboard_shows_the_same_storage_on_this_machine_only(tmp_path: Path) -> None:
    pytest.importorskip(
        "optuna_dashboard", reason="optuna-dashboard is not installed: pip install '.[dashboard]'"
    )
    journal, port = tmp_path / "journal", free_port()
    run_trials(toy_search(2), open_storage(str(journal)))
    serve = threading.Thread(target=storage.serve_dashboard, args=(str(journal), port), daemon=True)
    serve.start()
    until = time.monotonic() + 30
    while True:
        try:
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=5).read().decode()
            break
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert toy_search(2).study_name in page
    with socket.socket() as other:
        other.settimeout(2)
        addresses = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        for address in addresses - {"127.0.0.1"}:
            if not address.startswith("127."):
                assert other.connect_ex((address, port))
    with pytest.raises(InputError, match=f"another program on port {port}"):
        storage.serve_dashboard(str(journal), port)
