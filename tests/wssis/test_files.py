"""Lines that are appended for good."""

from __future__ import annotations

from pathlib import Path

from wssis.files import append_line


def test_lines_are_appended_and_a_half_one_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "log.jsonl"
    append_line(path, '{"a": 1}')
    append_line(path, '{"ü": 2}')
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n{"ü": 2}\n'
    with open(path, "a") as file:
        file.write("half")
    append_line(path, "3")
    assert path.read_text(encoding="utf-8").splitlines()[2:] == ["half", "3"]
