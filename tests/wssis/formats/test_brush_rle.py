"""Streams written here after the published layout of @thi.ng/rle-pack."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from wssis.formats.brush_rle import decode_alpha


def packed(words: NDArray[np.uint8], sizes: tuple[int, ...] = (3, 4, 8, 16), literal: int = 1) -> list[int]:
    """The bytes that code `words`; lone words are put together up to `literal`."""
    bits = [f"{len(words):032b}{7:05b}", *(f"{size - 1:04b}" for size in sizes)]
    place = 0
    while place < len(words):
        same = 1
        while place + same < len(words) and same < 2 ** sizes[-1] and words[place + same] == words[place]:
            same += 1
        count = same if same > 1 else min(literal, len(words) - place)
        kind = next(number for number, size in enumerate(sizes) if count <= 2**size)
        bits.append(f"{int(same > 1)}{kind:02b}{count - 1:0{sizes[kind]}b}")
        bits += [f"{word:08b}" for word in words[place : place + (1 if same > 1 else count)]]
        place += count
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def brush(mask: NDArray[np.bool_], sizes: tuple[int, ...] = (3, 4, 8, 16), literal: int = 1) -> list[int]:
    """As `packed`, of the RGBA picture whose alpha is 255 where `mask` is set, its colors 0."""
    words = np.zeros((*mask.shape, 4), dtype=np.uint8)
    words[..., 3] = mask * 255
    return packed(words.ravel(), sizes, literal)


def test_the_published_example_has_the_published_length() -> None:
    words = np.zeros(1024, dtype=np.uint8)
    words[512:541] = [*[1] * 5, *[2] * 4, *[3] * 3, 4, 4, 5, 4, 4, *[3] * 3, *[2] * 4, *[1] * 5]
    data = packed(words)
    assert len(data) == 30
    assert (decode_alpha(bytes(data), (16, 16)).ravel() == (words[3::4] > 0)).all()


def test_a_stream_written_by_hand() -> None:
    # 8 words of 8 bits, sizes 3 4 8 16; a run of 3 zeros, one 9, a chunk of 3, a run of 1
    header = "0" * 28 + "1000" + "00111" + "0010" + "0011" + "0111" + "1111"
    runs = (
        "1 00 010 00000000",
        "0 00 000 00001001",
        "0 00 010 00000001 00000010 00000011",
        "1 00 000 00000000",
    )
    bits = (header + "".join(runs)).replace(" ", "")
    bits += "0" * (-len(bits) % 8)
    assert decode_alpha(int(bits, 2).to_bytes(len(bits) // 8, "big"), (1, 2)).tolist() == [[True, False]]


@pytest.mark.parametrize("sizes", [(3, 4, 8, 16), (1, 2, 3, 4), (1, 1, 5, 7)])
@pytest.mark.parametrize("literal", [1, 2])
def test_runs_of_any_size_that_start_anywhere_in_a_pixel(sizes: tuple[int, ...], literal: int) -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.4
    assert (decode_alpha(bytes(brush(mask, sizes, literal)), (20, 30)) == mask).all()


def test_damaged_streams() -> None:
    data = bytes(brush(np.eye(8, dtype=bool)))
    for damaged, size in ((data[:-2], (8, 8)), (data[:4], (8, 8)), (b"", (8, 8)), (data, (8, 7))):
        with pytest.raises(ValueError, match="expected"):
            decode_alpha(damaged, size)
