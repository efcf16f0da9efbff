"""What a training minimises, so that a batch may be taken in parts: one after the other, or one a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

Loss = Callable[[nn.Module, Any], dict[str, Tensor]]


@runtime_checkable
class Objective(Protocol):
    """A loss whose terms are means over the whole batch, of which a part at a time is at hand."""

    def prepare(self, model: nn.Module, part: Any) -> tuple[Any, Sequence[float]]:
        """What `share` needs of a part, and what the terms count in it (such as objects), on the host."""

    def share(self, model: nn.Module, prepared: Any, counts: Sequence[float]) -> dict[str, Tensor]:
        """The part's share of each term, a scalar; `counts` are those of all parts together.

        The shares of all parts add up to the terms of the whole batch.
        """


class MeanOfParts:
    """Terms that are means over a batch's samples: parts count by their size.

    Args:
        loss: (model, batch) to scalar terms by name.
        size: samples of a part; by default each part counts alike.
    """

    def __init__(self, loss: Loss, size: Callable[[Any], int] = lambda part: 1) -> None:
        self.loss, self.size = loss, size

    def prepare(self, model: nn.Module, part: Any) -> tuple[Any, Sequence[float]]:
        """The part as it is, and its size."""
        return part, (float(self.size(part)),)

    def share(self, model: nn.Module, prepared: Any, counts: Sequence[float]) -> dict[str, Tensor]:
        """The part's means, by its share of the samples."""
        weight = self.size(prepared) / counts[0]
        return {name: value * weight for name, value in self.loss(model, prepared).items()}
