"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from pipelines.console.text import pluralize


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((1, "image"), "1 image"),
        ((0, "image"), "0 images"),
        ((1.4, "object"), "1 object"),
        ((12345, "mask"), "12,345 masks"),
        ((1, "class", "classes"), "1 class"),
        ((2, "class", "classes"), "2 classes"),
    ],
)
def test_one_is_no_plural(words: tuple[float, str], line: str) -> None:
    assert pluralize(*words) == line
