"""Moves of the aliases: one at a time, logged, and completed after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.config.schema import Promote
from pipelines.promotion import promote as promotion
from pipelines.promotion.gate_result import Check, GateResult
from pipelines.promotion.list_versions import list_models
from pipelines.promotion.promote import promote, rollback
from pipelines.registry import versions
from pipelines.tracking.store import open_store
from wssis.errors import InputError

ROOT = Path(__file__).parents[3]
NAME = "wssis-student"
GOOD = GateResult((Check("gain", True, "+0.1"), Check("classes", True, "ok")), {"score": 0.4, "gain": 0.1})
BAD = GateResult((Check("gain", False, "-0.2"), Check("classes", False, "star -0.3")), {"gain": -0.2})


def run(number: int | None = None, result: GateResult = GOOD, name: str = NAME, **options: Any) -> None:
    promote(name, number, Promote(), gate=lambda *given: result, **options)


def test_the_candidate_replaces_the_version_in_production(registered: Path) -> None:
    run(1)
    assert versions.aliases(NAME) == {"candidate": 3, "production": 1}
    run()
    assert versions.aliases(NAME) == {"candidate": 3, "production": 3, "previous": 1}
    first, second = promotion.read_log()
    assert (first["event"], first["version"], first["production"]) == ("promoted", 1, None)
    assert (second["event"], second["version"], second["production"]) == ("promoted", 3, 1)
    assert second["checks"]["gain"] == {"passed": True, "found": "+0.1"}
    assert second["settings"] == Promote().model_dump()
    tags = versions.find(NAME, 3).tags
    expected = {"event": "promoted", "against": "1", "check gain": "passed: +0.1", "gain": "0.1"}
    assert {key: tags[f"promote/{key}"] for key in expected} == expected
    assert tags["student_AP"] == "0.3"
    run(3)  # in production already
    assert len(promotion.read_log()) == 2


def test_checks_without_a_comparison_are_not_passed(
    registered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(1, GateResult((Check("answers", True, "ok"), Check("gain", None, "nothing to compare with"))))
    assert versions.aliases(NAME)["production"] == 1
    output = capsys.readouterr().out
    assert "  passed  answers: ok" in output
    assert "  not compared  gain: nothing to compare with" in output
    assert promotion.read_log()[-1]["checks"]["gain"]["passed"] is None
    assert versions.find(NAME, 1).tags["promote/check gain"] == "not compared: nothing to compare with"


def test_a_refusal_moves_nothing_and_is_logged(registered: Path) -> None:
    run(1)
    with pytest.raises(InputError, match=r"wssis-student/2.*gain: -0\.2.*star -0\.3.*--force"):
        run(2, BAD)
    assert versions.aliases(NAME) == {"candidate": 3, "production": 1}
    assert promotion.read_log()[-1]["event"] == "refused"
    tags = versions.find(NAME, 2).tags
    assert (tags["promote/event"], tags["promote/check classes"]) == ("refused", "failed: star -0.3")


def test_force_needs_a_reason_and_logs_it(registered: Path) -> None:
    run(1)
    for why in ("", "  "):
        with pytest.raises(InputError, match="--why"):
            run(2, BAD, force=True, why=why)
    assert len(promotion.read_log()) == 1
    run(2, BAD, force=True, why="new microscope")
    assert versions.aliases(NAME) == {"candidate": 3, "production": 2, "previous": 1}
    entry = promotion.read_log()[-1]
    assert (entry["event"], entry["why"]) == ("forced", "new microscope")
    assert entry["checks"]["gain"]["passed"] is False
    assert versions.find(NAME, 2).tags["promote/why"] == "new microscope"
    run(3, GOOD, force=True, why="to be sure")  # passes: an ordinary promotion
    assert promotion.read_log()[-1]["event"] == "promoted"


def test_missing_versions_are_named(registered: Path) -> None:
    with pytest.raises(InputError, match=r"version 7.*versions 1, 2, 3"):
        run(7)
    with pytest.raises(InputError, match=r"models:/wssis-labeler.*none.*dvc repro"):
        run(name="wssis-labeler")
    open_store().delete_registered_model_alias(NAME, "candidate")
    with pytest.raises(InputError, match="alias candidate"):
        run()
    assert promotion.read_log() == []


def test_rollback_swaps_and_twice_is_the_beginning(registered: Path) -> None:
    with pytest.raises(InputError, match="alias production"):
        rollback(NAME)
    run(1)
    with pytest.raises(InputError, match="alias previous"):
        rollback(NAME)
    run(2)
    rollback(NAME, why="it crashed")
    assert versions.aliases(NAME) == {"candidate": 3, "production": 1, "previous": 2}
    rollback(NAME)
    assert versions.aliases(NAME) == {"candidate": 3, "production": 2, "previous": 1}
    entries = promotion.read_log()
    assert [entry["event"] for entry in entries] == ["promoted", "promoted", "rolled back", "rolled back"]
    assert entries[2]["why"] == "it crashed"
    assert [entry["production"] for entry in entries] == [None, 1, 2, 1]


def test_a_held_lock_is_one_line(registered: Path) -> None:
    with promotion.promotion_lock():
        for command in (lambda: run(1), lambda: rollback(NAME)):
            with pytest.raises(InputError, match=r"promotions\.lock.*is running"):
                command()
    run(1)
    assert versions.aliases(NAME)["production"] == 1


def test_a_truncated_log_line_affects_no_other(registered: Path) -> None:
    run(1)
    with open(promotion.log_file(), "a") as file:
        file.write('{"id": "half')
    run(2)
    run(3)
    assert [entry["version"] for entry in promotion.read_log()] == [1, 2, 3]
    assert promotion.log_file().read_text().endswith("}\n")


def run_python(script: str, folder: Path) -> subprocess.Popen[str]:
    """A process in the project that has `run` and its imports."""
    head = f"""
        import json, os, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from pipelines.promotion import promote as promotion
        from pipelines.registry import versions
        from pipelines.promotion.gate_result import Check, GateResult
        from pipelines.config.schema import Promote
        from wssis.errors import InputError
        NAME = {NAME!r}
        def run(number, gate=lambda *given: GateResult((Check("gain", True, "ok"),))):
            promotion.promote(NAME, number, Promote(), gate=gate)
    """
    command = [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(script)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("moved", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_move_is_completed_by_the_next_command(
    registered: Path, moved: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run(1)
    run(2)
    process = run_python(
        f"""
        moves, move = [], versions.set_alias
        def killed(*given):
            if len(moves) == {moved}:
                os.kill(os.getpid(), signal.SIGKILL)
            moves.append(move(*given))
        versions.set_alias = killed
        run(3)
        """,
        registered,
    )
    _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, error
    # The old version is still in production, and the list shows the interruption.
    assert versions.aliases(NAME) == {"candidate": 3, "production": 2, "previous": (1, 2)[moved]}
    list_models()
    assert "version 3: `promoted` at" in capsys.readouterr().out
    rollback(NAME)
    assert "completed the move interrupted at" in capsys.readouterr().out
    assert versions.aliases(NAME) == {"candidate": 3, "production": 2, "previous": 3}
    events = [(entry["event"], entry["version"]) for entry in promotion.read_log()]
    assert events == [("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled back", 2)]
    assert promotion.pending(NAME) is None


def test_a_pending_move_to_a_deleted_version_is_dropped(registered: Path) -> None:
    run(1)
    entry = promotion.log_entry("promoted", versions.find(NAME, 2), versions.find(NAME, 1), "")
    versions.set_note(NAME, promotion.PENDING, json.dumps(entry))
    open_store().delete_model_version(NAME, "2")
    run(3)
    assert versions.aliases(NAME) == {"candidate": 3, "production": 3, "previous": 1}
    assert [entry["version"] for entry in promotion.read_log()] == [1, 3]


@pytest.mark.slow
def test_two_processes_do_not_interleave(registered: Path) -> None:
    script = """
        done = 0
        while done < 4:
            try:
                current = promotion.in_production(NAME)
                run(1 + (current.number if current else 0) % 3)
                done += 1
            except InputError as error:
                assert "is running" in str(error), error
            time.sleep(0.005)
    """
    processes = [run_python(script, registered) for _ in range(2)]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    entries = promotion.read_log()
    assert len(entries) >= 4
    assert [e["production"] for e in entries] == [None, *(e["version"] for e in entries[:-1])]
    last = entries[-1]
    expected = {"candidate": 3, "production": last["version"], "previous": last["production"]}
    assert versions.aliases(NAME) == expected


@pytest.mark.slow
def test_a_second_promotion_is_refused_while_the_gate_runs(registered: Path) -> None:
    process = run_python(
        """
        def gate(*given):
            Path("begun").touch()
            while not Path("continue").exists():
                time.sleep(0.01)
            return GateResult((Check("gain", True, "ok"),))
        run(1, gate)
        """,
        registered,
    )
    until = time.monotonic() + 60
    while not (registered / "begun").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(InputError, match="is running"):
        run(2)
    (registered / "continue").touch()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert versions.aliases(NAME) == {"candidate": 3, "production": 1}
