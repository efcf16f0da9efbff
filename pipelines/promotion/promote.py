"""Which version serves: the aliases `production` and `previous`, moved by one command at a time.

A move is noted on the model first (`PENDING`), then in the log, then made. A command that was killed in
between leaves the note, and the next one that moves anything ends what it began (`finish`).
"""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from pipelines import paths
from pipelines.config.platform_schema import Promote
from pipelines.promotion.gate_result import OUTCOME, Verdict
from pipelines.registry import versions
from pipelines.registry.register import ALIAS
from pipelines.registry.versions import Version
from wssis.errors import InputError
from wssis.files import append_line

PRODUCTION = "production"
PREVIOUS = "previous"
PENDING = "wssis.pending"  # tag of a model: the move that is under way, as JSON

Say = Callable[[str], None]
Examine = Callable[[Version, Version | None, Promote], Verdict]


def promote(
    name: str,
    number: int | None,
    settings: Promote,
    *,
    why: str = "",
    force: bool = False,
    say: Say = print,
    examine: Examine | None = None,
) -> None:
    """Point `production` at a version that passes the gate, and `previous` at the one that served.

    Args:
        name: of the model.
        number: of the version, None for that under `candidate`.
        settings: of the gate.
        why: is recorded; needed with `force`.
        force: promote whatever the gate says, which is recorded, too.
        examine: the gate, `pipelines.promotion.gate.examine` unless another is given.

    Raises:
        InputError: no such version, it does not pass, `force` without `why`, or another promotion goes on.
    """
    if force and not why.strip():
        raise InputError(
            "expected a reason, found none",
            where="--force",
            remedy="Say why the gate is overridden: --why TEXT",
        )
    with alone():
        finish(name, say)
        candidate = versions.find(name, ALIAS if number is None else number)
        serving = in_production(name)
        if serving is not None and candidate.number == serving.number:
            say(f"{candidate.uri} is in production already; nothing changes")
            return
        say(f"{candidate.uri} against {serving.uri if serving else 'nothing: no version is in production'}")
        verdict = (examine or _gate())(candidate, serving, settings)
        for check in verdict.checks:
            outcome = OUTCOME[check.passed]
            say(f"  {outcome if check.passed is not False else outcome.upper()}  {check.name}: {check.found}")
        event = "promoted" if not verdict.failed else "forced" if force else "refused"
        line = record(event, candidate, serving, why) | judged(verdict, settings)
        if event == "refused":
            append_line(log_file(), json.dumps(line, allow_nan=False))
            versions.tag(name, candidate.number, tags(line))
            raise InputError(
                "expected all checks to pass, found "
                + "; ".join(f"{check.name}: {check.found}" for check in verdict.failed),
                where=candidate.uri,
                remedy="Nothing was moved; --force --why TEXT overrides the gate",
            )
        move(line)
        before = f", {PREVIOUS} {serving.number}" if serving else ""
        say(f"{PRODUCTION} is version {candidate.number}{before}")
        if verdict.answers is not None:
            from pipelines.promotion.version_predictions import keep

            keep(candidate, verdict.answers)


def _gate() -> Examine:
    from pipelines.promotion.gate import examine  # needs torch, which takes seconds: not to roll back

    return examine


def rollback(name: str, *, why: str = "", say: Say = print) -> None:
    """Swap `production` and `previous`. Nothing is checked: that version has served before.

    Raises:
        InputError: there is no earlier version, or another promotion goes on.
    """
    with alone():
        finish(name, say)
        pointing = versions.aliases(name)
        for alias in (PRODUCTION, PREVIOUS):
            if alias not in pointing:
                raise InputError(
                    f"expected a version under the alias {alias}, found none",
                    where=f"models:/{name}",
                    remedy="There is nothing to go back to; `wssis models` lists versions and aliases",
                )
        back, serving = versions.find(name, PREVIOUS), versions.find(name, PRODUCTION)
        move(record("rolled back", back, serving, why))
        say(f"{PRODUCTION} is version {back.number} again, {PREVIOUS} {serving.number}")


@contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this project's promotions.

    Raises:
        InputError: another process holds it. Whoever comes second did not see what the first one changes.
    """
    path = log_file().with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            "expected no other promotion, found one under way",
            where=path,
            remedy="Wait until it ends, look at `wssis models`, and run again",
        ) from None
    try:
        yield
    finally:
        lock.release()


def move(line: dict[str, Any]) -> None:
    """Make the move that a line of the log describes, so that a kill at any point can be made good."""
    versions.set_note(line["model"], PENDING, json.dumps(line, allow_nan=False))
    _apply(line)


def finish(name: str, say: Say) -> None:
    """End the move that a killed command began, if there is one."""
    line = pending(name)
    if line is None:
        return
    if line["version"] in [version.number for version in versions.versions(name)]:
        _apply(line)
        say(f"ended what was interrupted at {line['time']}: version {line['version']} {line['event']}")
    else:  # deleted since
        versions.set_note(name, PENDING, "")


def pending(name: str) -> dict[str, Any] | None:
    """The move of a model that was begun and not ended."""
    text = versions.note(name, PENDING)
    return json.loads(text) if text else None


def _apply(line: dict[str, Any]) -> None:
    name = line["model"]
    if all(line["id"] != other["id"] for other in log()):
        append_line(log_file(), json.dumps(line, allow_nan=False))
    versions.tag(name, line["version"], tags(line))
    if line["production"] is not None:
        versions.set_alias(name, PREVIOUS, line["production"])
    versions.set_alias(name, PRODUCTION, line["version"])
    versions.set_note(name, PENDING, "")


def in_production(name: str) -> Version | None:
    """The version under `production`."""
    return versions.find(name, PRODUCTION) if PRODUCTION in versions.aliases(name) else None


def record(event: str, to: Version, serving: Version | None, why: str) -> dict[str, Any]:
    """A line of the log: who moves what, when and why."""
    return {
        "id": uuid.uuid4().hex,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": event,
        "model": to.name,
        "version": to.number,
        "production": serving.number if serving else None,  # what served until then
        "why": why.strip(),
        "by": f"{psutil.Process().username()}@{socket.gethostname()}",
    }


def judged(verdict: Verdict, settings: Promote) -> dict[str, Any]:
    """What the gate found, for a line of the log."""
    return {
        "checks": {c.name: {"passed": c.passed, "found": c.found} for c in verdict.checks},
        "numbers": {key: round(value, 6) for key, value in verdict.numbers.items()},
        "settings": settings.model_dump(),
    }


def tags(line: dict[str, Any]) -> dict[str, str]:
    """A line of the log as tags of its version."""
    found = {key: str(line[key]) for key in ("event", "time", "why", "by")}
    found["against"] = str(line["production"] or "")
    found |= {key: str(value) for key, value in line.get("numbers", {}).items()}
    for name, check in line.get("checks", {}).items():
        found[f"check {name}"] = f"{OUTCOME[check['passed']]}: {check['found']}"
    return {f"promote/{key}": value for key, value in found.items()}


def log_file() -> Path:
    """Beside the artifacts, whose versions it speaks of."""
    return paths.project_root() / paths.PROMOTIONS


def log() -> list[dict[str, Any]]:
    """Every line of the log; one that a kill cut off is left out."""
    if not log_file().exists():
        return []
    found = []
    for text in log_file().read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found
