"""Labels by the paper's rules: the refined mask takes the rough one's place, and every mask is believed."""

from __future__ import annotations

from pipelines.inference.label_dataset import labelled
from wssis.data.records import ImageRecord
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import decide
from wssis.settings import PseudoRules

PAPER_RULES = PseudoRules(
    refined_weight=1.0, min_confidence=0.0, own_point=0.0, agreement=0.0, exclusive=False
)


def by_the_paper(record: ImageRecord, given: Proposals) -> ImageRecord:
    """An image with a label a point."""
    return labelled(record, decide(given, PAPER_RULES))
