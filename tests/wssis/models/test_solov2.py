"""SOLOv2: shapes of the raw maps, the position term, and what padding may not change."""

import pytest
import torch

from wssis.models.solov2 import SOLOv2
from wssis.settings import SOLOv2Settings

SMALL = SOLOv2Settings(
    pretrained=False,
    strides=(4, 8, 16),
    sources=(0, 1, 2),
    fpn_channels=16,
    head_channels=16,
    mask_channels=8,
)
PAPER = SOLOv2Settings(
    backbone="resnet18",
    pretrained=False,
    strides=(4, 8, 16, 32),
    extra_level=True,
    fpn_channels=32,
    head_channels=32,
    mask_channels=16,
    sources=(0, 1, 2, 3, 4),
    cells=(),
    grids=(12, 10, 8, 6, 4),
    ranges=((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048)),
    parity=True,
)


@pytest.mark.parametrize("settings", [SMALL, PAPER], ids=["default", "paper"])
def test_raw_maps_fit_together(settings: SOLOv2Settings) -> None:
    model = SOLOv2(settings, num_classes=3).eval()
    batch = model.preprocess(
        [torch.zeros((3, 70, 90), dtype=torch.uint8), torch.zeros((3, 96, 40), dtype=torch.uint8)]
    )
    raw = model(batch)
    cells = sum(rows * columns for rows, columns in raw.grids)
    assert batch.shape == (2, 3, 96, 96)
    assert raw.image_size == (96, 96)
    assert raw.category.shape == (2, cells, 3)
    assert raw.features.shape[2:] == (24, 24)
    assert raw.kernels.shape == (2, cells, raw.features.shape[1])
    assert raw.mask_logits(1, torch.tensor([0, cells - 1])).shape == (2, 24, 24)
    assert (raw.position is None) if settings.parity else (raw.position.shape == (2, cells, 6))


def test_grids_follow_the_image_with_cells_and_do_not_with_grids() -> None:
    assert SMALL.grid_sizes(96, 160) == ((24, 40), (12, 20), (6, 10))
    assert PAPER.grid_sizes(96, 160)[0] == (12, 12)


def test_an_untrained_cell_is_a_disc_round_its_middle() -> None:
    torch.manual_seed(0)
    model = SOLOv2(SMALL, num_classes=1).eval()
    raw = model(torch.zeros(1, 3, 96, 96))
    cell = raw.cells_of(torch.tensor([[50.0, 50.0]]))[0, 1:2]
    mask = raw.mask_logits(0, cell)[0] > 0
    assert mask[12, 12]
    assert not mask[0, 0]
    assert 20 < mask.sum() < 120


def test_preprocess_pads_with_the_mean_color() -> None:
    model = SOLOv2(SMALL, num_classes=1)
    image = torch.full((3, 33, 20), 255, dtype=torch.uint8)
    batch = model.preprocess([image])
    assert batch.shape == (1, 3, 64, 32)
    assert (batch[0, :, 33:] == 0).all()
    assert (batch[0, :, :33, :20] > 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": ()}, "give cells"),
        ({"grids": (1, 2, 3)}, "give cells"),
        ({"sources": (0, 1)}, "a value a level each"),
        ({"sources": (0, 1, 9)}, "sources must be"),
        ({"ranges": ((5, 5), (1, 2), (1, 2))}, "low < high"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SOLOv2Settings(**change)
