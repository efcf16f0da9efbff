"""The run-length code of @thi.ng/rle-pack, in which Label Studio keeps brush strokes as RGBA pictures.

A stream of bits, most significant first:

    32 bits    number of words
    5 bits     bits of a word - 1
    4 x 4 bits bits of a run's length - 1, for each of four classes of runs

then, until all words are there, runs of

    1 bit      1: one word repeated, 0: words one by one
    2 bits     the class
    … bits     length of the run - 1
    … bits     the word, or as many words as the run is long
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORD = 8  # bits of a channel


def decode_alpha(data: bytes, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Where the RGBA picture (H, W) that `data` codes is not fully transparent: (H, W) bool.

    Raises:
        ValueError: `data` is cut off, or codes something else than 4 H W bytes.
    """
    stream = _Bits(data)
    words, word = stream.take(32), stream.take(5) + 1
    if (words, word) != (4 * size[0] * size[1], _WORD):
        raise ValueError(
            f"expected a picture of {size[1]} x {size[0]} px of 4 bytes, found {words} words of {word} bits"
        )
    lengths = [stream.take(4) + 1 for _ in range(4)]
    mask = np.zeros(size[0] * size[1], dtype=bool)
    done = 0
    while done < words:
        repeated = stream.take(1)
        end = done + stream.take(lengths[stream.take(2)]) + 1
        if end > words:
            raise ValueError(f"expected {words} words, found more")
        # The alphas among words done … end are those of pixels done // 4 … end // 4.
        if repeated:
            mask[done // 4 : end // 4] = stream.take(_WORD) > 0
        else:
            mask[done // 4 : end // 4] = stream.words(end - done)[3 - done % 4 :: 4] > 0
        done = end
    return mask.reshape(size)


class _Bits:
    def __init__(self, data: bytes) -> None:
        self.data, self.place, self.end = data, 0, 8 * len(data)

    def take(self, count: int) -> int:
        """The next `count` ≤ 32 bits as a number."""
        first, self.place = self.place, self.place + count
        if self.place > self.end:
            raise ValueError(f"expected more than {len(self.data)} bytes, found the end")
        last = (self.place + 7) // 8
        number = int.from_bytes(self.data[first // 8 : last], "big")
        return (number >> (8 * last - self.place)) & ((1 << count) - 1)

    def words(self, count: int) -> NDArray[np.uint8]:
        """The next `count` words."""
        first, self.place = self.place, self.place + _WORD * count
        if self.place > self.end:
            raise ValueError(f"expected more than {len(self.data)} bytes, found the end")
        piece = np.frombuffer(self.data[first // 8 : (self.place + 7) // 8], dtype=np.uint8).astype(np.uint16)
        shift = first % 8
        return ((piece[:count] << shift) | (np.append(piece, 0)[1 : count + 1] >> (8 - shift))).astype(
            np.uint8
        )
