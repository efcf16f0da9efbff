"""What tune_refiner searches: settings of short trainings, judged on held-out strong images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from pipelines.config.schema import Refiner
from pipelines.inference.label_dataset import beats_chance, each_image
from pipelines.inference.load_models import load_solov2
from pipelines.search.pruning import OverSteps
from pipelines.search.study import Pruned, Range, Report, Search, Values
from wssis.data.coco import CocoData
from wssis.instances import Instances
from wssis.ops.masks import mask_iou
from wssis.pseudo_labels.labeler import Labeler, refine_all
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import every_mask
from wssis.settings import PseudoRules
from wssis.training.refiner import train_refiner
from wssis.training.trainer import NonFiniteLoss

LOOKS = (0.25, 0.5, 0.75, 1.0)  # shares of a training at which held-out masks are compared
PAIRS = 1000  # held-out objects up to which each is a pair; beyond, each image is one
AGAIN = 2  # further seeds with which the best settings must beat the defaults
REFINED = PseudoRules(refined_weight=1.0)  # the refined mask alone; the rough one where it is empty


@dataclass
class Trainings:
    """Short trainings of refiners, and the IoU of what they make of the teacher's masks of held-out objects.

    The teacher answers once; what a trial costs is its own training.

    Attributes:
        section: the defaults.
        steps: of a training.
        seed: of trainings and proposals.
        teacher: folder of the final teacher.
        strong, roughs: what is learnt from, see `train_refiner`.
        holdout: what the masks are judged on.
        device: where networks lie.
    """

    section: Refiner
    steps: int
    seed: int
    teacher: Path
    strong: CocoData
    roughs: list[CocoData]
    holdout: CocoData
    device: str

    def search(self, n_trials: int, deps: dict[str, str]) -> Search:
        """The search; `deps` are digests of what else a trial hangs on."""
        return Search(
            name="tune_refiner",
            space=space_of(self.section),
            defaults=values_of(self.section),
            objective=self.objective,
            n_trials=n_trials,
            seed=self.seed,
            pruning=OverSteps(),
            identity={"refiner": self.section.model_dump(mode="json"), "steps": self.steps, "deps": deps},
            exact=False,
        )

    @cached_property
    def rough(self) -> list[tuple[Tensor, Proposals, Instances]]:
        """Image, the final teacher's masks of its points, and the truth, of each held-out image."""
        saved = load_solov2(self.teacher, self.device)
        labeler = Labeler(saved.model, None, saved.resize, flips=saved.views)
        return [
            (image, labeler.propose(image, *prompts), record.instances())
            for record, image, prompts in each_image(self.holdout, "holdout")
            if record.objects
        ]

    def objective(self, values: Values, report: Report) -> float:
        """Mean IoU after a short training with `values`, reported on the way."""
        worth = 0.0

        def look(share: float, model: nn.Module) -> None:
            nonlocal worth
            each = self.ious(model)
            worth = float(torch.cat(each).mean())
            pairs = torch.cat(each) if sum(map(len, each)) <= PAIRS else torch.stack([e.mean() for e in each])
            report(round(share * self.steps), worth, pairs.tolist(), last=share == LOOKS[-1])

        try:
            self.train(values, self.seed, look)
        except NonFiniteLoss as error:
            if values == values_of(self.section):
                raise
            raise Pruned(str(error)) from error
        return worth

    def train(
        self, values: Values, seed: int, look: Callable[[float, nn.Module], None] | None = None
    ) -> nn.Module:
        """A refiner with `values` after the short training; `look` is shown it at `LOOKS`."""
        section = applied(self.section, values)
        warmup = round(section.train.warmup * self.steps / section.train.iterations)
        return train_refiner(
            self.strong,
            self.roughs,
            section.model,
            replace(section.train, iterations=self.steps, warmup=warmup),
            seed,
            section.crops,
            device=self.device,
            dice_share=section.dice_share,
            augment=section.augment,
            snapshots=LOOKS if look else (),
            on_snapshot=look,
        )

    def ious(self, model: nn.Module) -> list[Tensor]:
        """IoU (n,) of the refined masks with the truth, of the objects of each held-out image."""
        found = []
        for image, given, truth in self.rough:
            image, rough, points, labels = (
                part.to(self.device) for part in (image, given.rough, given.points, given.labels)
            )
            refined, windows = refine_all(model, image, rough, given.rough_size, points, labels)  # type: ignore[arg-type]
            decided = every_mask(replace(given, refined=refined, windows=windows.cpu()), REFINED)
            found.append(mask_iou(decided.get_masks(), truth.get_masks()))
        return found

    def beat_the_defaults(self, values: Values) -> tuple[bool, float]:
        """Whether `values` beat the defaults with other seeds, too, and by how much.

        The best of many trials is the luckiest as well: its own worth says too much.
        """
        rises = []
        for seed in range(self.seed + 1, self.seed + 1 + AGAIN):
            ours, theirs = (self.ious(self.train(tried, seed)) for tried in (values, values_of(self.section)))
            rises.append([one - other for one, other in zip(ours, theirs, strict=True)])
        by_image = [torch.stack(rise).mean(0) for rise in zip(*rises, strict=True)]
        return beats_chance(by_image), float(torch.cat(by_image).mean())


def values_of(section: Refiner) -> Values:
    """What is searched, as the section has it."""
    return {
        "scale": section.model.scale,
        "sigma": section.model.sigma,
        "dice_share": section.dice_share,
        "width": section.model.width,
        "learning_rate": section.train.learning_rate,
        "augment": section.augment,
    }


def space_of(section: Refiner) -> dict[str, Range]:
    """Bounds round the section's own values, so that they suit any preset."""
    now, step = values_of(section), max(1, section.model.width // 4)
    bounds = {
        "scale": Range(max(1.2, 0.7 * now["scale"]), 1.5 * now["scale"]),
        "sigma": Range(now["sigma"] / 2, now["sigma"] * 2, log=True),
        "dice_share": Range(0.0, 1.0),
        "width": Range(now["width"] - 2 * step, now["width"] + 4 * step, step=step),
        "learning_rate": Range(now["learning_rate"] / 4, now["learning_rate"] * 4, log=True),
        "augment": Range(0.0, 2.0),
    }
    return {name: bound.with_default(now[name]) for name, bound in bounds.items()}


def applied(section: Refiner, values: Values) -> Refiner:
    """The section with searched values; the training's range of scales moves with the scale."""
    if values == values_of(section):
        return section
    factor = values["scale"] / section.model.scale
    low, high = (max(1.0, round(factor * end, 4)) for end in section.model.scale_range)
    model = replace(
        section.model,
        scale=values["scale"],
        scale_range=(low, high),
        sigma=values["sigma"],
        width=values["width"],
    )
    return section.model_copy(
        update={
            "model": model,
            "train": replace(section.train, learning_rate=values["learning_rate"]),
            "dice_share": values["dice_share"],
            "augment": values["augment"],
        }
    )
