"""The search of tune_refiner: settings of short trainings, scored on held-out strong images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from optuna import Trial, TrialPruned
from optuna.distributions import IntDistribution
from optuna.pruners import HyperbandPruner
from optuna.samplers import TPESampler
from torch import Tensor, nn

from pipelines.config.schema import Refiner
from pipelines.inference.label_dataset import beats_chance, each_image
from pipelines.inference.load_models import load_solov2
from pipelines.search.space import Space, Values, floats, suggest
from pipelines.search.study import DEFAULTS, PRUNED, STARTUP_TRIALS, Search, should_prune
from wssis.data.records import CocoData
from wssis.instances import Instances
from wssis.ops.masks import mask_iou
from wssis.pseudo_labels.decisions import every_mask
from wssis.pseudo_labels.labeler import refine_all
from wssis.pseudo_labels.proposals import Proposals
from wssis.pseudo_labels.rules import PseudoRules
from wssis.training.refiner import train_refiner
from wssis.training.trainer import NonFiniteLoss

REPORT_AT = (0.25, 0.5, 0.75, 1.0)  # shares of a training at which a trial reports
OTHER_SEEDS = 2  # with which the best settings must beat the defaults again
# the refined mask alone, as the network made it; the rough one where it is empty
REFINED = PseudoRules(refined_weight=1.0, color_weight=0.0)


@dataclass
class RefinerObjective:
    """Mean IoU of refined masks of held-out objects after a short training.

    The teacher predicts the rough masks once; a trial costs its own training.

    Attributes:
        section: the defaults.
        steps: length of a training.
        seed: seed of trainings and of the sampler.
        teacher: folder of the final teacher.
        strong, roughs: training data, see `train_refiner`.
        holdout: the images that score a training.
        device: where the networks are.
    """

    section: Refiner
    steps: int
    seed: int
    teacher: Path
    strong: CocoData
    roughs: list[CocoData]
    holdout: CocoData
    device: str

    def __call__(self, trial: Trial) -> float:
        """Mean IoU after the training, reported on the way."""
        values = suggest(trial, space_of(self.section))
        iou = 0.0

        def report(share: float, model: nn.Module) -> None:
            nonlocal iou
            iou, step = float(torch.cat(self.ious(model)).mean()), round(share * self.steps)
            trial.report(iou, step)
            if share < 1 and should_prune(trial):
                trial.set_user_attr(PRUNED, f"by Hyperband at step {step}")
                raise TrialPruned

        try:
            self.train(values, self.seed, report)
        except NonFiniteLoss as error:
            if DEFAULTS in trial.user_attrs:
                raise
            trial.set_user_attr(PRUNED, str(error))
            raise TrialPruned from error
        return iou

    def search(self, n_trials: int, deps: dict[str, str]) -> Search:
        """The search; `deps` are digests of the stage's inputs.

        TPE, since it learns from pruned trials, which Optuna's Gaussian process passes over.
        """
        first = max(1, round(REPORT_AT[0] * self.steps))
        return Search(
            name="tune_refiner",
            objective=self,
            space=space_of(self.section),
            defaults=values_of(self.section),
            n_trials=n_trials,
            sampler=lambda seed: TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS),
            pruner=HyperbandPruner(min_resource=first, max_resource=self.steps, reduction_factor=2),
            seed=self.seed,
            identity={"refiner": self.section.model_dump(mode="json"), "steps": self.steps, "deps": deps},
        )

    @cached_property
    def rough(self) -> list[tuple[Tensor, Proposals, Instances]]:
        """Image, the final teacher's masks of its points, and the truth, of each held-out image."""
        saved = load_solov2(self.teacher, self.device)
        labeler = saved.labeler()
        return [
            (image, labeler.propose(image, *prompts), record.instances())
            for record, image, prompts in each_image(self.holdout, "holdout")
            if record.objects
        ]

    def train(
        self, values: Values, seed: int, report: Callable[[float, nn.Module], None] | None = None
    ) -> nn.Module:
        """A refiner after the short training with `values`; `report` gets it at `REPORT_AT`."""
        section = with_settings(self.section, values)
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
            snapshots=REPORT_AT if report else (),
            on_snapshot=report,
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

    def beats_defaults(self, values: Values) -> tuple[bool, float]:
        """Whether `values` beat the defaults with other seeds, and by how much IoU.

        The best of many trials is also the luckiest, so its own value proves little.
        """
        gains = []
        for seed in range(self.seed + 1, self.seed + 1 + OTHER_SEEDS):
            ours, theirs = (self.ious(self.train(v, seed)) for v in (values, values_of(self.section)))
            gains.append([one - other for one, other in zip(ours, theirs, strict=True)])
        by_image = [torch.stack(gain).mean(0) for gain in zip(*gains, strict=True)]
        return beats_chance(by_image), float(torch.cat(by_image).mean())


def values_of(section: Refiner) -> Values:
    """The searched settings of a section."""
    return {
        "scale": section.model.scale,
        "sigma": section.model.sigma,
        "dice_share": section.dice_share,
        "width": section.model.width,
        "learning_rate": section.train.learning_rate,
        "augment": section.augment,
    }


def space_of(section: Refiner) -> Space:
    """Bounds around the section's own values, so that they suit every preset."""
    scale, sigma, rate = section.model.scale, section.model.sigma, section.train.learning_rate
    width, step = section.model.width, max(1, section.model.width // 4)
    return {
        "scale": floats(max(1.2, 0.7 * scale), 1.5 * scale, scale),
        "sigma": floats(sigma / 2, sigma * 2, sigma, log=True),
        "dice_share": floats(0.0, 1.0, section.dice_share),
        "width": IntDistribution(width - 2 * step, width + 4 * step, step=step),
        "learning_rate": floats(rate / 4, rate * 4, rate, log=True),
        "augment": floats(0.0, 2.0, section.augment),
    }


def with_settings(section: Refiner, values: Values) -> Refiner:
    """The section with searched values; `scale_range` of the training's crops moves with the scale."""
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
