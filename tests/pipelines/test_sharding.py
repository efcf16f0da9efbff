"""`--shard i/n`: which shard is asked for, and journals that take over what shards left."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.journal import Journal
from pipelines.sharding import Shard, asked
from wssis.errors import InputError


def test_the_shard_of_a_command_line() -> None:
    assert asked([]) is None
    assert asked(["--shard", "2/4"]) == asked(["--shard=2/4"]) == Shard(2, 4)


@pytest.mark.parametrize("words", [["--shard", "0/4"], ["--shard", "5/4"], ["--shard", "x"], ["all"]])
def test_wrong_words_are_refused(words: list[str]) -> None:
    with pytest.raises(InputError, match=r"expected nothing or --shard I/N with I from 1 to N, found"):
        asked(words)


def test_shards_do_each_their_own_and_a_journal_takes_them_all(tmp_path: Path) -> None:
    paths = [tmp_path / f"label.{number}-of-2.jsonl" for number in (1, 2)]
    for number, path in enumerate(paths):
        shard = Journal(path, share=(number, 2))
        for place, key in enumerate((10, 11, 12, 13, 14)):
            if shard.is_left(key, place):
                shard.add(key, [key, number])
    paths[1].write_bytes(paths[1].read_bytes()[:-4])  # killed while it wrote the last of its two
    whole = Journal(tmp_path / "label.jsonl", paths)
    assert whole.taken == 4
    assert dict(whole.done) == {10: [10, 0], 12: [12, 0], 14: [14, 0], 11: [11, 1]}
    assert [key for place, key in enumerate((10, 11, 12, 13, 14)) if whole.is_left(key, place)] == [13]
