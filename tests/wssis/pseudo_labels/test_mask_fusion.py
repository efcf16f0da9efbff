"""wssis.pseudo_labels.mask_fusion: what is found in an object's window is what maps of the whole image would
say."""

from dataclasses import replace

import pytest
import torch

from wssis.pseudo_labels.mask_fusion import blends
from wssis.pseudo_labels.proposals import Proposals, full_size, pasted
from wssis.pseudo_labels.rules import PseudoRules


def discs_at(count: int, size: tuple[int, int], radius: float) -> torch.Tensor:
    """Soft discs (N, h, w) at random places, some of them cut by the border."""
    y, x = torch.arange(size[0])[:, None], torch.arange(size[1])[None, :]
    centers = torch.rand(count, 2) * torch.tensor([size[1], size[0]])
    distance = ((x - centers[:, :1, None]) ** 2 + (y - centers[:, 1:, None]) ** 2).sqrt()
    return torch.sigmoid(radius - distance)


def random_proposals(count: int = 12, size: tuple[int, int] = (61, 83)) -> Proposals:
    corners = torch.rand(count, 2) * torch.tensor([70.0, 50.0]) - 10
    return Proposals(
        points=torch.rand(count, 2) * torch.tensor([size[1], size[0]]).float(),
        labels=torch.zeros(count, dtype=torch.int64),
        ids=torch.arange(count),
        size=size,
        rough=discs_at(count, (32, 48), 4.0).half(),
        rough_size=(64.0, 96.0),
        score=torch.ones(count),
        refined=discs_at(count, (24, 24), 6.0).half(),
        windows=torch.cat([corners, corners + 10 + 30 * torch.rand(count, 1)], 1),
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("threshold", "weight"), [(0.5, 0.4), (0.3, 1.0), (0.7, 0.0)])
def test_a_window_holds_what_the_whole_image_does(seed: int, threshold: float, weight: float) -> None:
    torch.manual_seed(seed)
    given, rules = random_proposals(), PseudoRules(mask_threshold=threshold, refined_weight=weight)
    rows = torch.arange(len(given.points))
    assert given.refined is not None
    rough, refined = full_size(given, rows), pasted(given.refined, given.windows, given.size, rows)
    hard, harder = rough > threshold, refined > threshold
    full = torch.where(harder.flatten(1).any(1)[:, None, None], rough + weight * (refined - rough), rough)
    found = list(blends(given, rules))
    assert sum(blend.area for blend in found) > 500
    for row, blend in enumerate(found):
        torch.testing.assert_close(blend.probs, full[row][blend.window], rtol=0, atol=0)
        assert blend.area == int((full[row] > threshold).sum()), "nothing lies outside of the window"
        inside = full[row][full[row] > threshold]
        assert blend.maskness == pytest.approx(float(inside.mean()) if len(inside) else 0.0, rel=1e-6)
        x, y = given.points[row].long().tolist()
        assert blend.at_point == float(full[row, y, x])
        both, either = (hard & harder)[row].sum(), (hard | harder)[row].sum()
        assert blend.agreement == pytest.approx(float(both / either.clamp(min=1)))


def test_without_a_refiner_and_with_nothing_found() -> None:
    given = replace(random_proposals(2), rough=torch.zeros(2, 32, 48).half(), refined=None)
    for blend in blends(given, PseudoRules()):
        assert (blend.area, blend.maskness, blend.at_point, blend.agreement) == (0, 0.0, 0.0, 1.0)


def test_a_point_outside_the_image_counts_as_the_nearest_pixel() -> None:
    given = replace(random_proposals(1), points=torch.tensor([[83.0, -2.0]]), refined=None)
    (blend,) = blends(given, PseudoRules())
    assert blend.at_point == float(full_size(given, torch.arange(1))[0, 0, 82])


def test_no_point_is_no_blend() -> None:
    given = random_proposals(1)
    none = {
        name: getattr(given, name)[:0] for name in ("points", "labels", "ids", "rough", "refined", "windows")
    }
    assert list(blends(replace(given, **none), PseudoRules())) == []
