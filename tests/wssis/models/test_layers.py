"""The pyramid: sizes of its maps, and who sees whom."""

import pytest
import torch

from wssis.models.layers import FPN


def features(size: tuple[int, int] = (24, 40)) -> list[torch.Tensor]:
    torch.manual_seed(0)
    height, width = size
    return [torch.randn(2, 8 * 2**s, -(-height // 2**s), -(-width // 2**s)) for s in range(3)]


@pytest.mark.parametrize("size", [(24, 40), (23, 37), (1, 1)])
@pytest.mark.parametrize("extra", [False, True])
def test_maps_keep_their_sizes_and_share_their_channels(size, extra) -> None:
    given = features(size)
    maps = FPN((8, 16, 32), 12, extra)(given)
    assert len(maps) == 3 + extra
    assert [m.shape for m in maps[:3]] == [(2, 12, *f.shape[2:]) for f in given]
    if extra:
        assert maps[3].shape[2:] == tuple(-(-side // 2) for side in maps[2].shape[2:])
        assert torch.equal(maps[3], maps[2][:, :, ::2, ::2])


def test_what_is_coarse_reaches_the_fine_and_not_the_reverse() -> None:
    pyramid, given = FPN((8, 16, 32), 12, extra=False), features()
    before = pyramid(given)
    coarse = pyramid([*given[:2], given[2] + 1])
    assert not any(torch.equal(a, b) for a, b in zip(before, coarse, strict=True))
    fine = pyramid([given[0] + 1, *given[1:]])
    assert not torch.equal(before[0], fine[0])
    assert torch.equal(before[1], fine[1])
    assert torch.equal(before[2], fine[2])


def test_a_level_is_its_lateral_and_the_nearest_of_the_coarser_sum() -> None:
    """P_l = conv3x3(lateral(C_l) + up(lateral(C_l+1) + up(...))), Lin et al. 2017."""
    pyramid, given = FPN((8, 16, 32), 12, extra=False), features()
    top = pyramid.lateral[2](given[2])
    middle = pyramid.lateral[1](given[1]) + top.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(pyramid(given)[1], pyramid.smooth[1](middle))


def test_inputs_are_left_as_they_are() -> None:
    given = features()
    copies = [f.clone() for f in given]
    FPN((8, 16, 32), 12, extra=True)(given)
    assert all(torch.equal(a, b) for a, b in zip(given, copies, strict=True))
