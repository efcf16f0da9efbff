"""Settings and formulas of the rules, and that reading them loads no torch."""

import subprocess
import sys
from dataclasses import fields

import torch

from wssis.pseudo_labels.rules import PseudoRules, quality_signal, search_ranges


def test_every_default_lies_in_its_search_range() -> None:
    ranges = search_ranges()
    assert set(ranges) == {rule.name for rule in fields(PseudoRules)}
    for name, bounds in ranges.items():
        default = getattr(PseudoRules(), name)
        assert isinstance(default, bool) if bounds is None else bounds[0] <= default <= bounds[1]


def test_confidence_is_a_product_of_powers() -> None:
    rules = PseudoRules(own_point=2.0, agreement=0.0)
    found = rules.confidence(torch.tensor([0.8, 1.0]), torch.tensor([0.5, 1.0]), torch.tensor([0.1, 0.0]))
    assert torch.allclose(found, torch.tensor([0.2, 1.0]))


def test_quality_falls_with_disagreement_and_with_lost_pixels() -> None:
    one = torch.ones(1)
    assert quality_signal(one, one, one) == 1
    assert quality_signal(one, one / 4, one) == quality_signal(one, one, one / 4) == 0.5


def test_reading_the_rules_loads_no_torch() -> None:
    code = "import sys, wssis.pseudo_labels.rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
