"""What one request to a served model may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        mib: of its body.
        images: in it.
        megapixels: of an image, or of the network's padded input (`counted_pixels`), before it is decoded.
        points: in it; in an image of over a megapixel each counts for as many as it has, since every point
            gets a mask of the image's size.
        seconds: until it is answered, waiting included.
        waiting: requests that are in hand at a time.
    """

    mib: float = 32
    images: int = 16
    megapixels: float = 4
    points: int = 500
    seconds: float = 60
    waiting: int = 64

    @property
    def body(self) -> int:
        """Bytes of a body, at most."""
        return int(self.mib * 2**20)

    @property
    def pixels(self) -> int:
        """Pixels of an image, at most."""
        return int(self.megapixels * 1e6)
