"""Rules for pseudo-labels: their settings, search ranges and formulas. A new rule is written here alone.

This module imports no torch, so that reading params.yaml stays quick. `decisions` applies the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def searched(default: float, low: float, high: float, log: bool = False) -> Any:
    """A setting that tune_pseudo searches between `low` and `high`; `log`: on a logarithmic scale."""
    return field(default=default, metadata={"range": (low, high, log)})


@dataclass(frozen=True)
class PseudoRules:
    """How a point's rough and refined mask become a label.

    Attributes:
        mask_threshold: a pixel with a greater probability belongs to the mask.
        refined_weight: share of the refined mask in the probability; the rest is the rough mask.
        min_confidence: below this the point becomes an ignore region.
        own_point: power of the mask's probability at its own point in the confidence; 0: not used.
        agreement: power of the IoU of rough and refined mask in the confidence; 0: not used.
        exclusive: a pixel claimed by several masks goes to the most probable one.
        ignore_radius: minimum radius in pixels of an ignore region.
        color_weight: strength with which pixels of similar color pull each other into or out of the refined
            mask; 0: not used. Helps where color marks the outline, see `color_guidance`.
        color_reach: how far they pull, in sides of the refiner's crop.
    """

    mask_threshold: float = searched(0.5, 0.3, 0.7)
    refined_weight: float = searched(0.7, 0.0, 1.0)
    min_confidence: float = searched(0.2, 0.0, 0.6)
    own_point: float = searched(0.5, 0.0, 2.0)
    agreement: float = searched(0.5, 0.0, 2.0)
    exclusive: bool = True
    ignore_radius: float = searched(6.0, 2.0, 18.0, log=True)
    color_weight: float = searched(5.0, 0.0, 15.0)
    color_reach: float = searched(0.2, 0.05, 0.4, log=True)

    def __post_init__(self) -> None:
        if not 0 < self.mask_threshold < 1:
            raise ValueError("mask_threshold must be above 0 and below 1")
        if not 0 <= self.refined_weight <= 1 or not 0 <= self.min_confidence <= 1:
            raise ValueError("refined_weight and min_confidence must be between 0 and 1")
        if self.own_point < 0 or self.agreement < 0 or self.ignore_radius < 1:
            raise ValueError("own_point and agreement must be 0 or more, ignore_radius at least 1 pixel")
        if not 0 <= self.color_weight <= 100 or not 0.01 <= self.color_reach <= 10:
            raise ValueError("color_weight must be between 0 and 100, color_reach between 0.01 and 10")

    def confidence(self, maskness: Tensor, at_point: Tensor, agreement: Tensor) -> Tensor:
        """Confidence (N,) in 0..1: maskness x (probability at the point)^a x (agreement of the two masks)^b.

        Args:
            maskness: (N,) mean probability inside the mask.
            at_point: (N,) the mask's probability at its own point.
            agreement: (N,) IoU of rough and refined mask.
        """
        return maskness * at_point**self.own_point * agreement**self.agreement


def search_ranges() -> dict[str, tuple[float, float, bool] | None]:
    """(low, high, whether logarithmic) of each rule that tune_pseudo searches; None: true or false."""
    return {
        rule.name: rule.metadata.get("range")
        for rule in fields(PseudoRules)
        if rule.metadata or rule.type == "bool"
    }


def quality_signal(maskness: Tensor, views: Tensor, kept: Tensor) -> Tensor:
    """How good a mask probably is (N,), 0..1: of what was tried, nearest to the order of true IoUs.

    Args:
        maskness: (N,) mean probability inside the mask.
        views: (N,) agreement of the teacher's masks of the flipped image, see `Proposals`.
        kept: (N,) share of the mask that no neighbor's mask has taken.
    """
    return maskness * (views * kept).sqrt()
