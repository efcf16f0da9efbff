"""Damaged files of every format, read and gathered: a data set comes of them, or an InputError.

The error is one line that names the file; a data set is one that can be written and loaded again.
"""

from __future__ import annotations

import hashlib
import json
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.wssis.formats.mutate import HOSTILE_JSON, mutated
from tests.wssis.formats.seeds import SEEDS, lay_out
from wssis.data.coco import load_coco, save_coco
from wssis.errors import InputError
from wssis.formats.assemble import gather
from wssis.formats.readers import READERS
from wssis.formats.records import Options

SEED = 20261122  # of hypothesis: the same inputs in every run
FEW, MANY = 20, 300  # inputs a seed file
MEGAPIXEL = 1_000_000


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no example takes seconds for a picture of 100 megapixels, or waits for the disk."""
    monkeypatch.setattr("os.fsync", lambda file: None)
    for module in ("data.images", "data.coco_reader", "formats.json_fields", "formats.label_pixels"):
        monkeypatch.setattr(f"wssis.{module}.MAX_PIXELS", MEGAPIXEL)


def fuzz(name: str, folder: Path, examples: int) -> set[bytes]:
    """Hashes of the different inputs that were tried."""
    good = SEEDS[name]
    path, source, images = lay_out(good, folder)
    numbers = count()
    tried: set[bytes] = set()

    def gathered(options: Options, source: Path, embedded: bool) -> None:
        labeled = READERS[good.kind](source, options)
        out = folder / f"images-{next(numbers)}"
        data = gather([(str(source), labeled)], None if embedded else images, embedded=out).data
        save_coco(data, folder / "instances.json")
        again = load_coco(folder / "instances.json")
        assert (again.images, again.categories) == (data.images, data.categories)

    gathered(Options(), source, good.embedded)  # as it is, it can be read

    def refused_or_gathered(data: bytes, options: Options, whole: bool) -> bool:
        path.write_bytes(data)
        try:
            gathered(options, source if whole else path, good.embedded)
        except InputError as error:
            line = str(error)
            assert path.name in line
            assert line.isprintable()
            return True
        return False

    @seed(SEED)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(good.data, good.name), st.sampled_from(["many", "one"]), st.booleans())
    def check(data: bytes, points: str, whole: bool) -> None:
        if data != good.data:
            tried.add(hashlib.sha256(data).digest())
        refused_or_gathered(data, Options(points=points), whole or good.kind == "dsb2018")  # type: ignore[arg-type]

    check()
    if good.name.endswith("json"):
        for data in HOSTILE_JSON:
            tried.add(hashlib.sha256(data).digest())
            assert refused_or_gathered(data, Options(), whole=True)
    return tried


def test_every_reader_has_a_seed() -> None:
    assert {good.kind for good in SEEDS.values()} == set(READERS)


@pytest.mark.parametrize("name", SEEDS)
def test_a_damaged_file_is_refused_or_gathered(name: str, tmp_path: Path) -> None:
    assert len(fuzz(name, tmp_path, FEW)) >= FEW * 0.8


@pytest.mark.slow
def test_five_thousand_damaged_files_are_refused_or_gathered(tmp_path: Path) -> None:
    tried = {name: len(fuzz(name, tmp_path / name, MANY)) for name in SEEDS}
    print(json.dumps(tried))
    assert sum(tried.values()) >= 5000
