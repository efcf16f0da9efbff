"""refiner: trains on strong images to refine the masks of teachers."""

import sys
from dataclasses import asdict

from pipelines import paths
from pipelines.config.params import refiner_in_force
from pipelines.runner.run_stage import StageContext, run, with_objects
from wssis.checkpoint import save_model
from wssis.training.refiner import train_refiner


def refiner(stage: StageContext) -> None:
    """Train on the rough masks of two snapshots beside the true ones."""
    settings = refiner_in_force(stage.params)
    strong = with_objects(stage.load(paths.STRONG), paths.STRONG)
    roughs = [stage.load(paths.ROUGH_EARLY), stage.load(paths.ROUGH_LATE)]
    steps = settings.train.iterations
    with stage.training(steps) as (log, resume):
        model = train_refiner(
            strong,
            roughs,
            settings.model,
            settings.train,
            stage.params.seed,
            settings.crops,
            log.on_step,
            stage.device,
            settings.dice_share,
            settings.augment,
            resume=resume,
        )
    stage.exit_unless_rank_zero()
    log.write(paths.PLOT_REFINER)
    save_model(
        paths.REFINER,
        model,
        asdict(settings.model),
        kind="refiner",
        class_names=strong.class_names,
        extra={"seed": stage.params.seed},
    )


if __name__ == "__main__":
    sys.exit(run("refiner", refiner, ("seed", "refiner", "tune_refiner"), distributed=True))
