"""`wssis promote` and `wssis rollback`: the aliases `production` and `previous`.

A move is written down before it is made: on the model (`PENDING`), then in the log. If the command is killed
in between, the next one that moves an alias completes the move first.
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
from pipelines.promotion.gate_result import OUTCOME, GateResult, gate_record
from pipelines.registry import versions
from pipelines.registry.register import ALIAS
from pipelines.registry.versions import Version
from wssis.errors import InputError
from wssis.files import append_line

PRODUCTION = "production"
PREVIOUS = "previous"
PENDING = "wssis.pending"  # tag of a model: the log entry of a move under way, as JSON

Say = Callable[[str], None]
Entry = dict[str, Any]  # of the log
Gate = Callable[[Version, Version | None, Promote], GateResult]


def promote(
    name: str,
    number: int | None,
    settings: Promote,
    *,
    why: str = "",
    force: bool = False,
    say: Say = print,
    gate: Gate | None = None,
) -> None:
    """Point `production` at a version that passes the gate, and `previous` at the one it replaces.

    Args:
        name: of the model.
        number: of the version; None: the one under `candidate`.
        settings: of the gate.
        why: reason for the log; required with `force`.
        force: promote whatever the gate finds; the checks run and are logged all the same.
        gate: replaces `pipelines.promotion.gate.examine`.

    Raises:
        InputError: no such version, a check fails, `force` without `why`, or another promotion is running.
    """
    if force and not why.strip():
        raise InputError(
            "expected a reason, found none",
            where="--force",
            remedy="Say why the gate is overridden: --why TEXT",
        )
    with promotion_lock():
        complete_pending(name, say)
        candidate = versions.find(name, ALIAS if number is None else number)
        replaced = in_production(name)
        if replaced is not None and candidate.number == replaced.number:
            say(f"{candidate.uri} is in production already; nothing changes")
            return
        say(f"{candidate.uri} against {replaced.uri if replaced else 'nothing: no version is in production'}")
        result = (gate or _load_gate())(candidate, replaced, settings)
        for check in result.checks:
            outcome = OUTCOME[check.passed]
            say(f"  {outcome if check.passed is not False else outcome.upper()}  {check.name}: {check.found}")
        event = "promoted" if not result.failed else "forced" if force else "refused"
        entry = log_entry(event, candidate, replaced, why) | gate_record(result, settings)
        if event == "refused":
            append_line(log_file(), json.dumps(entry, allow_nan=False))
            versions.tag(name, candidate.number, tags(entry))
            raise InputError(
                "expected all checks to pass, found "
                + "; ".join(f"{check.name}: {check.found}" for check in result.failed),
                where=candidate.uri,
                remedy="Nothing was moved; --force --why TEXT overrides the gate",
            )
        move(entry)
        before = f", {PREVIOUS} {replaced.number}" if replaced else ""
        say(f"{PRODUCTION} is version {candidate.number}{before}")
        if result.predictions is not None:
            from pipelines.promotion import version_predictions

            version_predictions.cache(candidate, result.predictions)


def _load_gate() -> Gate:
    from pipelines.promotion.gate import (
        examine,
    )  # needs torch, which takes seconds and a rollback does not need

    return examine


def rollback(name: str, *, why: str = "", say: Say = print) -> None:
    """Swap `production` and `previous`, without checks: that version was in production before.

    Raises:
        InputError: there is no previous version, or another promotion is running.
    """
    with promotion_lock():
        complete_pending(name, say)
        known = versions.aliases(name)
        for alias in (PRODUCTION, PREVIOUS):
            if alias not in known:
                raise InputError(
                    f"expected a version under the alias {alias}, found none",
                    where=f"models:/{name}",
                    remedy="There is nothing to go back to; `wssis models` lists versions and aliases",
                )
        back, replaced = versions.find(name, PREVIOUS), versions.find(name, PRODUCTION)
        move(log_entry("rolled back", back, replaced, why))
        say(f"{PRODUCTION} is version {back.number} again, {PREVIOUS} {replaced.number}")


@contextmanager
def promotion_lock() -> Iterator[None]:
    """The lock of this project's promotions.

    Raises:
        InputError: another process holds it. Waiting would decide on what that process is about to change.
    """
    path = log_file().with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            "another promotion is running",
            where=path,
            remedy="Wait until it ends, look at `wssis models`, and run this again",
        ) from None
    try:
        yield
    finally:
        lock.release()


def move(entry: Entry) -> None:
    """Make the move of a log entry; `complete_pending` completes it after a kill at any point."""
    versions.set_note(entry["model"], PENDING, json.dumps(entry, allow_nan=False))
    _apply(entry)


def complete_pending(name: str, say: Say) -> None:
    """Complete the move that a killed command began, if there is one."""
    entry = pending(name)
    if entry is None:
        return
    if entry["version"] in [version.number for version in versions.versions(name)]:
        _apply(entry)
        say(f"completed the move interrupted at {entry['time']}: version {entry['version']} {entry['event']}")
    else:  # deleted since
        versions.set_note(name, PENDING, "")


def pending(name: str) -> Entry | None:
    """The log entry of a model's move that was begun and not completed."""
    text = versions.note(name, PENDING)
    return json.loads(text) if text else None


def _apply(entry: Entry) -> None:
    name = entry["model"]
    if all(entry["id"] != other["id"] for other in read_log()):
        append_line(log_file(), json.dumps(entry, allow_nan=False))
    versions.tag(name, entry["version"], tags(entry))
    if entry["production"] is not None:
        versions.set_alias(name, PREVIOUS, entry["production"])
    versions.set_alias(name, PRODUCTION, entry["version"])
    versions.set_note(name, PENDING, "")


def in_production(name: str) -> Version | None:
    """The version under `production`."""
    return versions.find(name, PRODUCTION) if PRODUCTION in versions.aliases(name) else None


def log_entry(event: str, version: Version, replaced: Version | None, why: str) -> Entry:
    """An entry of the log: what happens to a version, who did it, when and why."""
    return {
        "id": uuid.uuid4().hex,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "event": event,
        "model": version.name,
        "version": version.number,
        "production": replaced.number if replaced else None,  # the version in production until then
        "why": why.strip(),
        "by": f"{psutil.Process().username()}@{socket.gethostname()}",
    }


def tags(entry: Entry) -> dict[str, str]:
    """An entry of the log as tags of its version."""
    found = {key: str(entry[key]) for key in ("event", "time", "why", "by")}
    found["against"] = str(entry["production"] or "")
    found |= {key: str(value) for key, value in entry.get("numbers", {}).items()}
    for name, check in entry.get("checks", {}).items():
        found[f"check {name}"] = f"{OUTCOME[check['passed']]}: {check['found']}"
    return {f"promote/{key}": value for key, value in found.items()}


def log_file() -> Path:
    """The log, beside the artifacts of the versions that it names."""
    return paths.project_root() / paths.PROMOTIONS


def read_log() -> list[Entry]:
    """Every entry of the log; a line that a kill cut off is skipped."""
    if not log_file().exists():
        return []
    found = []
    for text in log_file().read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found
