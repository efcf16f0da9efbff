"""Registered versions by number, alias and URI, and lines for what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.registry import versions
from wssis.errors import InputError


def test_versions_have_their_aliases_tags_and_order(registered: Path) -> None:
    found = versions.versions("wssis-student")
    assert [version.number for version in found] == [3, 2, 1]
    assert [version.aliases for version in found] == [("candidate",), (), ()]
    assert found[0].tags["student_AP"] == "0.3"
    assert found[0].uri == "models:/wssis-student/3"
    assert versions.versions("nobody") == []
    assert versions.aliases("nobody") == {}


def test_find_by_number_alias_and_uri(registered: Path) -> None:
    assert versions.find("wssis-student", 2).number == 2
    assert versions.find("wssis-student", "candidate").number == 3
    assert versions.find_uri("models:/wssis-student/1").number == 1
    assert versions.find_uri("models:/wssis-student@candidate").number == 3
    versions.set_alias("wssis-student", "production", 1)
    assert versions.find("wssis-student", "production").aliases == ("production",)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("models:/wssis-student/9", ("version 9", "versions 1, 2, 3")),
        ("models:/wssis-student@production", ("alias production", "versions 1, 2, 3")),
        ("models:/nobody@candidate", ("models:/nobody", "found none", "dvc repro")),
        ("models:/wssis-student", ("models:/wssis-student@production",)),
        ("models:/wssis-student/x", ("models:/wssis-student@production",)),
        ("models/student", ("models/student",)),
    ],
)
def test_what_is_not_there_is_named(registered: Path, uri: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        versions.find_uri(uri)
    assert all(word in str(caught.value) for word in words)


def test_notes_and_tags(registered: Path) -> None:
    assert versions.note("wssis-student", "k") == ""
    versions.set_note("wssis-student", "k", "value")
    assert versions.note("wssis-student", "k") == "value"
    versions.set_note("wssis-student", "k", "")
    assert versions.note("wssis-student", "k") == ""
    versions.tag("wssis-student", 2, {"AP": 0.5})
    assert versions.find("wssis-student", 2).tags["AP"] == "0.5"
