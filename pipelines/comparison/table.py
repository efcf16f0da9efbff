"""table: everything that was measured as docs/compare.md, plots, CSV and JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import paths
from pipelines.comparison.cell import folder_of
from pipelines.comparison.plots import draw_ap, draw_sweep
from pipelines.comparison.rows import TITLES
from pipelines.config.params import Params
from pipelines.runner.run_stage import Outcome, StageContext, run
from pipelines.runner.training_log import write_csv
from pipelines.stages.report import as_markdown
from wssis.evaluation.coco_ap import AP_KEYS
from wssis.files import write_json, write_text

Entry = dict[str, Any]  # row, fraction, mean and std of AP, hours and masks (means), AP of each seed


def table(stage: StageContext) -> Outcome:
    """Gather the cells that params name; what lies there from before is left out."""
    settings = stage.params.compare
    entries = [
        row_summary(row, fraction, [measured(fraction, seed, row) for seed in settings.seeds])
        for row in settings.rows
        for fraction in settings.fractions
    ]
    sweep = [
        {
            "fraction": fraction,
            "seed": seed,
            "row": row,
            **shares,
            **trained(fraction, seed, row, shares, found),
        }
        for fraction in settings.fractions
        for seed in settings.seeds
        for found in [measured(fraction, seed, "thresholds")]
        for row in found["val"]
        for shares in found["val"][row]
    ]
    keys = ("row", "fraction", "AP", "AP_std", "label_hours", "masks", "seeds")
    write_csv(paths.COMPARE_AP, [{key: entry[key] for key in keys} for entry in entries])
    write_csv(paths.COMPARE_THRESHOLDS, sweep)
    write_json(paths.COMPARE_RESULTS, {"settings": conditions(stage.params), "rows": entries}, indent=2)
    draw_ap(entries, "fraction", paths.COMPARE_BY_FRACTION)
    draw_ap(entries, "label_hours", paths.COMPARE_BY_HOURS)
    draw_sweep(sweep, paths.COMPARE_SWEEP)
    write_text(paths.COMPARE_DOC, page(entries, stage.params))
    stage.say(f"{paths.COMPARE_DOC} and {paths.COMPARE_RESULTS}")
    files = (paths.COMPARE_BY_FRACTION, paths.COMPARE_BY_HOURS, paths.COMPARE_SWEEP, paths.COMPARE_DOC)
    return Outcome(
        headline={f"AP/{e['row']}/{e['fraction']}": e["AP"] for e in entries},
        files=[(path, "compare") for path in files],
    )


def measured(fraction: float, seed: int, name: str) -> dict[str, Any]:
    """What a cell's stage wrote."""
    return json.loads((paths.COMPARE_MEASURED / folder_of(fraction, seed).name / f"{name}.json").read_text())


def row_summary(row: str, fraction: float, found: Sequence[Mapping[str, float]]) -> Entry:
    """Mean and standard deviation (n - 1; None of one seed) over the seeds."""
    means = {key: float(np.mean([one[key] for one in found])) for key in (*AP_KEYS, "masks", "label_hours")}
    each = [one["AP"] for one in found]
    std = float(np.std(each, ddof=1)) if len(each) > 1 else None
    return {"row": row, "fraction": fraction, **means, "AP_std": std, "seeds": len(each), "AP_each": each}


def trained(
    fraction: float, seed: int, row: str, shares: Mapping[str, float], found: Mapping[str, Any]
) -> dict[str, Any]:
    """Columns `chosen` (0 or 1) and `AP`: that of the student, at the threshold that one was trained at."""
    chosen = found["chosen"][row] == shares["threshold"]
    path = paths.COMPARE_MEASURED / folder_of(fraction, seed).name / f"{row}.json"
    ap = json.loads(path.read_text())["AP"] if chosen and path.exists() else ""
    return {"chosen": int(chosen), "AP": ap}


def conditions(params: Params) -> dict[str, Any]:
    """Under which settings it was measured."""
    settings = params.compare
    own = {name: train.iterations for name, train in params.trainings().items()}
    return {
        "data": params.tracking.experiment,
        "iterations": {name: min(n, settings.iterations or n) for name, n in own.items()},
        "iterations_of_params": own,
        "fractions": list(settings.fractions),
        "seeds": list(settings.seeds),
    }


def page(entries: Sequence[Entry], params: Params) -> str:
    """docs/compare.md."""
    facts = conditions(params)
    fractions = facts["fractions"]
    cells = {(entry["row"], entry["fraction"]): entry for entry in entries}
    header = ("labels of the weak images", *(f"{fraction:.0%}" for fraction in fractions))

    def lines(shown: Any) -> str:
        rows = [
            (TITLES[row], *(shown(cells[row, fraction]) for fraction in fractions))
            for row in params.compare.rows
        ]
        return as_markdown([header, *rows])

    steps = ", ".join(f"{name} {n}" for name, n in facts["iterations"].items())
    short = facts["iterations"] != facts["iterations_of_params"]
    warning = (
        "\n**Shortened trainings** (`compare.iterations`): these figures show that everything runs, and in "
        "which order the rows fall at this length. They are not what the method reaches.\n"
        if short
        else ""
    )
    seeds = ", ".join(str(seed) for seed in facts["seeds"])
    spread = "mean ± standard deviation" if len(facts["seeds"]) > 1 else "one seed, so no deviation"
    return TEXT.format(
        data=facts["data"],
        seeds=seeds,
        spread=spread,
        steps=steps,
        warning=warning,
        ap=lines(shown_ap),
        hours=lines(lambda entry: f"{entry['label_hours']:.2f}"),
        masks=lines(lambda entry: f"{entry['masks']:.0f}"),
        fraction_png=relative(paths.COMPARE_BY_FRACTION),
        hours_png=relative(paths.COMPARE_BY_HOURS),
        sweep_png=relative(paths.COMPARE_SWEEP),
        ap_csv=paths.COMPARE_AP,
        thresholds_csv=paths.COMPARE_THRESHOLDS,
        results=paths.COMPARE_RESULTS,
    )


def shown_ap(entry: Entry) -> str:
    """AP, with its deviation where there is one."""
    return f"{entry['AP']:.3f}" + ("" if entry["AP_std"] is None else f" ± {entry['AP_std']:.3f}")


def relative(path: Path) -> str:
    """A picture as docs/compare.md links it."""
    return path.relative_to(paths.COMPARE_DOC.parent).as_posix()


TEXT = """<!-- Written by `wssis compare`; what is changed here is lost at the next run. -->
# Comparison

The same student, trained on weak images with labels of different origin. A column is a share of strong
images. Made by `wssis compare`. Experiment `{data}`; seeds {seeds} ({spread}); iterations: {steps}. What the
rows are: [method.md](method.md#what-wssis-compare-compares).
{warning}
## Mask AP on `val`

{ap}

![AP against the share of strong images]({fraction_png})

![AP against labeling hours]({hours_png})

## Hours of labeling

By the ledger's prices; held-out images included.

{hours}

## Masks on the weak images

{masks}

## What a score threshold can do, and points need not

Without points, a threshold on the teacher's scores decides what becomes a label: a low one lets false masks
in, a high one misses objects, which then train as background. Curves: every threshold from .05 to .95,
measured on `val`, which takes no part in the choice. Marks: the thresholds in use, chosen by F1 at IoU .5 on
the held-out strong images, with the AP of the student trained there. Every clicked object gets its mask.

![Misses against false masks]({sweep_png})

Figures: `{ap_csv}`, `{thresholds_csv}`, `{results}`.
"""

if __name__ == "__main__":
    sys.exit(run("table", table, ("compare",)))
