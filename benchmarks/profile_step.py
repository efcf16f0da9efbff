"""Where the time goes in a step of the student's training, and in pseudo-labelling an image.

    python -m benchmarks.profile_step [--threads N] [--steps 24] [--warm 4] [--out FILE]

in the project's root after `dvc repro`. The code that is measured is the pipeline's own, with a clock round
its parts; each part's time is without that of the parts in it. Medians over the steps and images. An image
is decoded when first shown and kept: for `data` of later passes, let --warm cover the first.
"""

import argparse
import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from statistics import median
from typing import Any, TypeVar
from unittest.mock import patch

import torch

import pipelines.inference.label_dataset
import wssis.pseudo_labels.labeler
import wssis.training.solov2
from pipelines import paths
from pipelines.config.params import load_params, rules_in_force
from pipelines.inference.load_models import load_labeler
from pipelines.runner.run_stage import StageContext, exit_code
from pipelines.stages.report import as_markdown
from wssis.files import write_json
from wssis.models.backbone import Backbone
from wssis.models.fpn import FPN
from wssis.models.solov2 import InstanceHead, MaskBranch, SOLOv2

Item = TypeVar("Item")


class Clock:
    """Time by part, a part's own time only; a step (`lap`) at a time.

    Args:
        rest: name of what is in no other part.
        wait: called before each reading (a GPU works on while Python does).
    """

    def __init__(self, rest: str, wait: Callable[[], None] = lambda: None) -> None:
        self.laps: list[dict[str, float]] = []  # seconds
        self._open, self._wait = [rest], wait
        self._current: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def _charge(self) -> None:
        self._wait()
        now = time.perf_counter()
        self._current[self._open[-1]] += now - self._last
        self._last = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time inside belongs to `name`."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def lap(self) -> None:
        """A step has ended."""
        self._charge()
        self.laps.append(dict(self._current))
        self._current.clear()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call` with its time in the part `name`."""

        def wrapper(*arguments: Any, **options: Any) -> Any:
            with self.part(name):
                return call(*arguments, **options)

        return wrapper

    def each(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """The items, with the time that getting them takes in the part `name`."""
        iterator, end = iter(items), object()
        while (item := self.timed(name, next)(iterator, end)) is not end:
            yield item

    @contextmanager
    def on(self, *places: tuple[object, str, str]) -> Iterator[None]:
        """Inside, the functions at `places` (owner, attribute, part) are timed."""
        with ExitStack() as stack:
            for owner, attribute, name in places:
                call = self.timed(name, getattr(owner, attribute))
                stack.enter_context(patch.object(owner, attribute, call))
            yield

    def medians(self) -> dict[str, float]:
        """Milliseconds of each part, in the order of the last lap, the rest at the end."""
        rest = self._open[0]
        names = [*(name for name in self.laps[-1] if name != rest), rest]
        return {name: 1000 * median(lap.get(name, 0.0) for lap in self.laps) for name in names}


def clock_for(stage: StageContext, rest: str) -> Clock:
    """A clock that waits for the stage's device."""
    return Clock(rest, torch.cuda.synchronize) if stage.device == "cuda" else Clock(rest)


def training_step(stage: StageContext, steps: int, warm: int) -> dict[str, float]:
    """Milliseconds by part of a step of the student's training."""
    clock, params = clock_for(stage, "optimiser and EMA"), stage.params
    drawn = [stage.load(path) for path in (paths.STRONG, paths.HOLDOUT)]
    loader = wssis.training.solov2.training_loader
    places = (
        (SOLOv2, "preprocess", "preprocess"),
        (Backbone, "forward", "backbone"),
        (FPN, "forward", "fpn"),
        (InstanceHead, "forward", "head"),
        (MaskBranch, "forward", "mask branch"),
        (SOLOv2, "forward", "raw maps"),
        (wssis.training.solov2, "assign", "targets"),
        (wssis.training.solov2, "solov2_loss", "loss"),
        (torch.Tensor, "backward", "backward"),
    )
    data = patch.object(
        wssis.training.solov2, "training_loader", lambda *a, **k: clock.each("data", loader(*a, **k))
    )
    with data, clock.on(*places):
        wssis.training.solov2.train_solov2(
            drawn,
            params.model,
            params.resize,
            params.augment,
            replace(params.student.train, iterations=2 + warm + steps),
            params.seed,
            guessed=[stage.load(paths.LABELS)],
            drawn_share=params.student.drawn_share,
            on_step=lambda progress: clock.lap(),
            device=stage.device,
        )
    # In the first the network was made; in the last no targets are, for there is no batch to come.
    clock.laps = clock.laps[1 + warm : -1]
    return clock.medians()


def pseudo_image(stage: StageContext, images: int, warm: int) -> dict[str, float]:
    """Milliseconds by part of labelling a weak image (the stage encodes three variants, here it is one)."""
    clock, rules = clock_for(stage, "rest"), rules_in_force(stage.params)
    labeler, _ = load_labeler(paths.TEACHER, paths.REFINER, rules, stage.device)
    points = stage.load(paths.POINTS)
    some = replace(points, images=tuple(points.images[i % len(points.images)] for i in range(warm + images)))
    places = (
        (pipelines.inference.label_dataset, "read_image", "read"),
        (SOLOv2, "preprocess", "network"),
        (SOLOv2, "forward", "network"),
        (wssis.pseudo_labels.labeler, "prompt", "prompting"),
        (wssis.pseudo_labels.labeler.Labeler, "propose", "refiner"),
    )
    with clock.on(*places):
        for record, given in pipelines.inference.label_dataset.proposals(labeler, some, "pseudo-labels"):
            with clock.part("decide"):
                decided = wssis.pseudo_labels.labeler.decide(given, rules)
            with clock.part("encode"):
                pipelines.inference.label_dataset.labelled(record, decided)
            clock.lap()
    del clock.laps[:warm]
    return clock.medians()


def machine(stage: StageContext) -> str:
    """What the times were measured on."""
    if stage.device == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def table(title: str, parts: dict[str, float]) -> str:
    """Parts, milliseconds and shares in Markdown."""
    total = sum(parts.values())
    rows = [(name, f"{ms:.1f}", f"{ms / total:.0%}") for name, ms in parts.items()]
    return as_markdown([(title, "ms", "share"), *rows, ("all", f"{total:.1f}", "100%")])


def run(threads: int, steps: int, warm: int, out: str | None) -> None:
    """Measure, print tables, write or print JSON."""
    if threads:
        torch.set_num_threads(threads)
    stage = StageContext("profile", load_params())
    found: dict[str, dict[str, float]] = {
        "training step": training_step(stage, steps, warm),
        "pseudo-labels of an image": pseudo_image(stage, steps, warm),
    }
    for title, parts in found.items():
        print(f"{table(title, parts)}\n")
    values = {"machine": machine(stage), "torch": str(torch.__version__), "milliseconds": found}
    if out:
        write_json(out, values, indent=2)
    else:
        print(json.dumps(values, indent=2))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile_step", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; torch's choice if not given")
    parser.add_argument("--steps", type=int, default=24, help="steps and images that count")
    parser.add_argument("--warm", type=int, default=4, help="steps and images before, that do not count")
    parser.add_argument("--out", help="JSON file to write; printed if not given")
    given = parser.parse_args(arguments)
    if given.threads < 0 or given.warm < 0 or given.steps < 1:
        parser.error("threads and warm must be 0 or more and steps at least 1")
    return exit_code(lambda: run(given.threads, given.steps, given.warm, given.out))


if __name__ == "__main__":
    sys.exit(main())
