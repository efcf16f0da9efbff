"""train: the student's training on a row's labels, alike in everything but these."""

import sys

from pipelines import paths
from pipelines.comparison.rows import run_row
from pipelines.runner.run_stage import StageContext
from pipelines.stages.train import student


def train(stage: StageContext, row: str) -> None:
    """Train and save the row's student."""
    student(stage, paths.ROW_LABELS / f"{row}.json", paths.ROW_MODELS / row, paths.ROW_PLOTS / f"{row}.csv")


if __name__ == "__main__":
    sys.exit(run_row("train", train, ("seed", "model", "resize", "augment", "student"), together=True))
