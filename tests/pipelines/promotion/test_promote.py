"""Moves of the aliases: one at a time, recorded, and whole again after a kill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.config.schema import Promote
from pipelines.promotion import promote as promotion
from pipelines.promotion.gate_result import Check, Verdict
from pipelines.promotion.list_versions import list_models
from pipelines.promotion.promote import promote, rollback
from pipelines.registry import versions
from wssis.errors import InputError

ROOT = Path(__file__).parents[3]
NAME = "wssis-student"
GOOD = Verdict((Check("gain", True, "+0.1"), Check("classes", True, "ok")), {"score": 0.4, "gain": 0.1})
BAD = Verdict((Check("gain", False, "-0.2"), Check("classes", False, "star -0.3")), {"gain": -0.2})


def verdict(value: Verdict) -> Callable[..., Verdict]:
    return lambda candidate, production, settings: value


def go(number: int | None = None, value: Verdict = GOOD, **options: object) -> None:
    promote(NAME, number, Promote(), examine=verdict(value), **options)  # type: ignore[arg-type]


def test_the_candidate_goes_into_production_and_the_old_one_is_kept(registered: Path) -> None:
    go(1)
    assert versions.aliases(NAME) == {"candidate": 3, "production": 1}
    go()
    assert versions.aliases(NAME) == {"candidate": 3, "production": 3, "previous": 1}
    first, second = promotion.log()
    assert (first["event"], first["version"], first["production"]) == ("promoted", 1, None)
    assert (second["event"], second["version"], second["production"]) == ("promoted", 3, 1)
    assert second["checks"]["gain"] == {"passed": True, "found": "+0.1"}
    assert second["settings"] == Promote().model_dump()
    tags = versions.find(NAME, 3).tags
    assert tags["promote/event"] == "promoted"
    assert tags["promote/against"] == "1"
    assert tags["promote/check gain"] == "passed: +0.1"
    assert tags["promote/gain"] == "0.1"
    assert tags["student_AP"] == "0.3"


def test_what_was_not_compared_is_said_so(registered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Verdict((Check("answers", True, "ok"), Check("gain", None, "nothing to compare with")))
    go(1, first)
    assert versions.aliases(NAME)["production"] == 1
    said = capsys.readouterr().out
    assert "  passed  answers: ok" in said
    assert "  not compared  gain: nothing to compare with" in said
    assert promotion.log()[-1]["checks"]["gain"]["passed"] is None
    assert versions.find(NAME, 1).tags["promote/check gain"] == "not compared: nothing to compare with"


def test_what_is_in_production_already_changes_nothing(
    registered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(2)
    go(2)
    assert "in production already" in capsys.readouterr().out
    assert len(promotion.log()) == 1


def test_a_version_that_fails_stays_out_and_that_is_recorded(registered: Path) -> None:
    go(1)
    with pytest.raises(InputError) as caught:
        go(2, BAD)
    assert all(
        part in str(caught.value) for part in ("gain: -0.2", "star -0.3", "wssis-student/2", "--force")
    )
    assert versions.aliases(NAME) == {"candidate": 3, "production": 1}
    assert promotion.log()[-1]["event"] == "refused"
    assert versions.find(NAME, 2).tags["promote/event"] == "refused"
    assert versions.find(NAME, 2).tags["promote/check classes"] == "failed: star -0.3"


def test_force_needs_a_reason_and_records_it(registered: Path) -> None:
    go(1)
    for why in ("", "  "):
        with pytest.raises(InputError, match="--why"):
            go(2, BAD, force=True, why=why)
    assert versions.aliases(NAME)["production"] == 1
    assert len(promotion.log()) == 1
    go(2, BAD, force=True, why="new microscope")
    assert versions.aliases(NAME) == {"candidate": 3, "production": 2, "previous": 1}
    line = promotion.log()[-1]
    assert (line["event"], line["why"]) == ("forced", "new microscope")
    assert line["checks"]["gain"]["passed"] is False
    assert versions.find(NAME, 2).tags["promote/why"] == "new microscope"
    # Forced or not, what passes was promoted.
    go(3, GOOD, force=True, why="to be sure")
    assert promotion.log()[-1]["event"] == "promoted"


def test_unknown_versions_and_no_candidate_are_named(registered: Path) -> None:
    with pytest.raises(InputError, match=r"version 7.*versions 1, 2, 3"):
        go(7)
    with pytest.raises(InputError, match=r"models:/wssis-labeler.*none.*dvc repro"):
        promote("wssis-labeler", None, Promote(), examine=verdict(GOOD))
    from pipelines.tracking.store import open_store

    open_store().delete_registered_model_alias(NAME, "candidate")
    with pytest.raises(InputError, match="alias candidate"):
        go()
    assert promotion.log() == []


def test_rollback_swaps_and_twice_is_where_it_began(registered: Path) -> None:
    with pytest.raises(InputError, match="alias production"):
        rollback(NAME)
    go(1)
    with pytest.raises(InputError, match="alias previous"):
        rollback(NAME)
    go(2)
    rollback(NAME, why="it crashed")
    assert versions.aliases(NAME) == {"candidate": 3, "production": 1, "previous": 2}
    rollback(NAME)
    assert versions.aliases(NAME) == {"candidate": 3, "production": 2, "previous": 1}
    lines = promotion.log()
    assert [line["event"] for line in lines] == ["promoted", "promoted", "rolled back", "rolled back"]
    assert lines[2]["why"] == "it crashed"
    assert [line["production"] for line in lines] == [None, 1, 2, 1]


def test_a_held_lock_is_one_line(registered: Path) -> None:
    with promotion.alone():
        for call in (lambda: go(1), lambda: rollback(NAME)):
            with pytest.raises(InputError, match=r"promotions\.lock.*under way"):
                call()
    go(1)
    assert versions.aliases(NAME)["production"] == 1


def test_a_line_that_was_cut_off_spoils_no_other(registered: Path) -> None:
    go(1)
    with open(promotion.log_file(), "a") as file:
        file.write('{"id": "half')
    go(2)
    go(3)
    assert [line["version"] for line in promotion.log()] == [1, 2, 3]
    assert promotion.log_file().read_text().endswith("}\n")


def run_python(script: str, folder: Path) -> subprocess.Popen[str]:
    """A process in the project that has `go` and what it needs."""
    head = f"""
        import json, os, signal, sys, time
        from pathlib import Path
        sys.path.insert(0, {str(ROOT)!r})
        from pipelines.promotion import promote as promotion
        from pipelines.registry import versions
        from pipelines.promotion.gate_result import Check, Verdict
        from pipelines.config.schema import Promote
        from wssis.errors import InputError
        NAME = {NAME!r}
        def go(number, examine=lambda *given: Verdict((Check("gain", True, "ok"),))):
            promotion.promote(NAME, number, Promote(), examine=examine)
    """
    text = textwrap.dedent(head) + textwrap.dedent(script)
    words = [sys.executable, "-c", text]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("moved", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_kill_between_the_moves_is_made_good_by_the_next_command(
    registered: Path, moved: int, capsys: pytest.CaptureFixture[str]
) -> None:
    go(1)
    go(2)
    process = run_python(
        f"""
        moves, move = [], versions.set_alias
        def killed(*given):
            if len(moves) == {moved}:
                os.kill(os.getpid(), signal.SIGKILL)
            moves.append(move(*given))
        versions.set_alias = killed
        go(3)
        """,
        registered,
    )
    _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, error
    # Production still serves what it served, and the list says what is the matter.
    assert versions.aliases(NAME) == {"candidate": 3, "production": 2, "previous": (1, 2)[moved]}
    list_models()
    assert "version 3 was being promoted" in capsys.readouterr().out
    rollback(NAME)
    assert "ended what was interrupted" in capsys.readouterr().out
    assert versions.aliases(NAME) == {"candidate": 3, "production": 2, "previous": 3}
    events = [(line["event"], line["version"]) for line in promotion.log()]
    assert events == [("promoted", 1), ("promoted", 2), ("promoted", 3), ("rolled back", 2)]
    assert promotion.pending(NAME) is None


def test_a_move_to_a_version_that_was_deleted_since_is_dropped(registered: Path) -> None:
    from pipelines.tracking.store import open_store

    go(1)
    line = promotion.record("promoted", versions.find(NAME, 2), versions.find(NAME, 1), "")
    versions.set_note(NAME, promotion.PENDING, json.dumps(line))
    open_store().delete_model_version(NAME, "2")
    go(3)
    assert versions.aliases(NAME) == {"candidate": 3, "production": 3, "previous": 1}
    assert [line["version"] for line in promotion.log()] == [1, 3]


@pytest.mark.slow
def test_two_processes_do_not_interleave(registered: Path) -> None:
    script = """
        done = 0
        while done < 4:
            try:
                serving = promotion.in_production(NAME)
                go(1 + (serving.number if serving else 0) % 3)
                done += 1
            except InputError as error:
                assert "under way" in str(error), error
            time.sleep(0.005)
    """
    processes = [run_python(script, registered) for _ in range(2)]
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    lines = promotion.log()
    assert [line["production"] for line in lines] == [None, *(line["version"] for line in lines[:-1])]
    assert len(lines) >= 4
    last = lines[-1]
    assert versions.aliases(NAME) == {
        "candidate": 3,
        "production": last["version"],
        "previous": last["production"],
    }


def test_while_one_examines_the_other_is_told_to_wait(registered: Path) -> None:
    slow = run_python(
        """
        def examine(*given):
            Path("begun").touch()
            while not Path("go on").exists():
                time.sleep(0.01)
            return Verdict((Check("gain", True, "ok"),))
        go(1, examine)
        """,
        registered,
    )
    until = time.monotonic() + 60
    while not (registered / "begun").exists() and slow.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(InputError, match="under way"):
        go(2)
    (registered / "go on").touch()
    _, error = slow.communicate(timeout=60)
    assert slow.returncode == 0, error
    assert versions.aliases(NAME) == {"candidate": 3, "production": 1}
