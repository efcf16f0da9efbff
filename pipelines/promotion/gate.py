"""What `wssis promote` checks: a candidate against the version in production, both run on `val`.

1. validation set: both were registered with the validation set that is here.
2. signature: callers of the version in production can call the candidate.
3. answers: it loads in a new process with its own code, predicts all of `val`, and reaches its registered AP.
4. gain: score - score of production is at least `min_gain`, in `min_sure` of the bootstrap resamples.
5. classes: no class loses more than `max_class_loss`.

The score of a student is COCO's mask AP. A labeler gets a point in each object; its score is the mean of
`label_utility`: IoU - 0.5, or about -0.1 for a point that it leaves undecided. Both are means over classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipelines import paths
from pipelines.config.platform_schema import Promote
from pipelines.inference.label_dataset import label_utility
from pipelines.promotion import version_predictions
from pipelines.promotion.gate_result import Check, GateResult, Results
from pipelines.promotion.version_predictions import Predictions
from pipelines.registry.lineage import VAL_DIGEST, val_digest
from pipelines.registry.register import LABELER
from pipelines.registry.versions import Version
from pipelines.runner.run_stage import StageContext
from wssis.data import rle as rle_api
from wssis.data.records import CocoData
from wssis.errors import InputError
from wssis.evaluation.paired_bootstrap import (
    Comparison,
    MeanScores,
    Scores,
    ap_scores,
    compare,
    mean_of_classes,
)
from wssis.instances import Instances

NO_PRODUCTION = "nothing to compare with: no version is in production"
REGISTERED_AP = "student_AP"
AP_TOLERANCE = 0.01  # the gate predicts one image at a time, the stage evaluate in batches


def examine(candidate: Version, production: Version | None, settings: Promote) -> GateResult:
    """Run all checks; without a version in production the comparisons are "not compared"."""
    checks = [check_val(candidate, production), check_signature(candidate, production)]

    def unfinished(names: Sequence[str], passed: bool | None, found: str) -> tuple[Check, ...]:
        return (*checks, *(Check(name, passed, found) for name in names))

    if not checks[0].passed:
        return GateResult(unfinished(("answers", "gain", "classes"), False, "not measured"))
    points = candidate.name == LABELER
    val = load_val(points)
    predictions = version_predictions.predict_val(candidate, val, points)
    if predictions.problem:
        checks.append(Check("answers", False, predictions.problem))
        return GateResult(unfinished(("gain", "classes"), False, "not measured"))
    scores = score(candidate, val, predictions.results)
    own = mean_of_classes(scores.by_class(np.ones(scores.images)))
    checks.append(check_answers(candidate, predictions, own))
    numbers = {"score": own}
    if production is None:
        checks = [*unfinished(("gain", "classes"), None, NO_PRODUCTION)]
        return GateResult(tuple(checks), numbers, predictions.results)
    baseline = version_predictions.cached(production) or version_predictions.predict_val(
        production, val, points
    )
    if baseline.problem:
        found = f"version {production.number}, in production, gives no predictions: {baseline.problem}"
        return GateResult(unfinished(("gain", "classes"), False, found), numbers, predictions.results)
    result = compare(scores, score(production, val, baseline.results), settings.resamples)
    checks += [check_gain(result, settings), check_classes(result, val.class_names, settings)]
    low, high = result.interval()
    numbers |= {
        "production_score": result.production,
        "gain": result.gain,
        "gain_low": low,
        "gain_high": high,
        "sure": result.sure(settings.min_gain),
    }
    known = {key: value for key, value in numbers.items() if not np.isnan(value)}
    return GateResult(tuple(checks), known, predictions.results)


def check_val(candidate: Version, production: Version | None) -> Check:
    """Both versions were registered with the validation set that is here."""
    name = "validation set"
    if not paths.PREPARED_VAL.exists():
        return Check(name, False, f"{paths.PREPARED_VAL} does not exist; `dvc checkout {paths.PREPARED}`")
    try:
        here = val_digest(paths.PREPARED_VAL)
    except InputError as error:
        return Check(name, False, str(error))
    for version in filter(None, (candidate, production)):
        digest = version.tags.get(VAL_DIGEST, "")
        if digest != here:
            found = digest[:8] or "none"
            return Check(name, False, f"here is {here[:8]}, version {version.number} was measured on {found}")
    return Check(name, True, f"{here[:8]}, the same")


def check_signature(candidate: Version, production: Version | None) -> Check:
    """The candidate takes what the version in production takes; params that are new have defaults."""
    name = "signature"
    try:
        new = candidate.signature
        old = production.signature if production else None
    except (InputError, OSError, ValueError) as error:
        return Check(name, False, f"cannot be read: {error}")
    if old is None:
        return Check(name, None, NO_PRODUCTION)
    if new == old:
        return Check(name, True, "unchanged")
    known = new.get("params") or []
    missing = [param["name"] for param in old.get("params") or [] if param not in known]
    if missing:
        return Check(name, False, f"lacks params of the version in production: {', '.join(missing)}")
    parts = [key for key in ("inputs", "outputs") if new.get(key) != old.get(key)]
    if parts:
        return Check(name, False, f"other {' and '.join(parts)}: {json.dumps(new.get(parts[0]))[:200]}")
    return Check(name, True, "takes what the version in production takes")


def check_answers(version: Version, predictions: Predictions, own: float) -> Check:
    """A student's AP here is its registered one."""
    found = f"{len(predictions.results)} images in {predictions.seconds:.1f} s in a process of its own"
    registered = float(version.tags.get(REGISTERED_AP, "nan"))
    if version.name == LABELER or np.isnan(registered) or np.isnan(own):
        return Check("answers", True, found)
    passed = abs(own - registered) <= AP_TOLERANCE
    return Check("answers", passed, f"{found}; AP {own:.3f}, registered with {registered:.3f}")


def check_gain(result: Comparison, settings: Promote) -> Check:
    """The gain is at least `min_gain`, in at least `min_sure` of the resamples."""
    low, high = result.interval()
    sure = result.sure(settings.min_gain)
    found = (
        f"{result.candidate:.3f} - {result.production:.3f} = {result.gain:+.3f}, "
        f"95 % interval {low:+.3f} to {high:+.3f}; "
        f"at least {settings.min_gain:g} in {100 * sure:.0f} % of {len(result.resampled)} resamples"
    )
    if not sure >= settings.min_sure:
        found += f" (promote.min_sure is {100 * settings.min_sure:g} %)"
    return Check("gain", result.gain >= settings.min_gain and sure >= settings.min_sure, found)


def check_classes(result: Comparison, names: Sequence[str], settings: Promote) -> Check:
    """No class loses more than `max_class_loss`."""
    gains = sorted(
        (float(v), name) for v, name in zip(result.by_class, names, strict=True) if not np.isnan(v)
    )
    lost = [f"{name} {value:+.3f}" for value, name in gains if value < -settings.max_class_loss]
    if lost:
        found = f"{', '.join(lost)}; promote.max_class_loss is {settings.max_class_loss:g}"
        return Check("classes", False, found)
    value, name = gains[0] if gains else (0.0, "none")
    return Check("classes", True, f"the least is {name} {value:+.3f}")


def load_val(points: bool) -> CocoData:
    """The validation set; for a labeler the images that have an object with a mask."""
    val = StageContext.load(paths.PREPARED_VAL)
    images = tuple(image for image in val.images if not points or version_predictions.with_masks(image))
    return replace(val, images=images)


def score(version: Version, val: CocoData, results: Sequence[Results]) -> Scores:
    """Scores of a version by image and class."""
    if version.name == LABELER:
        return labeler_scores(val, results)
    numbered = zip(val.images, results, strict=True)
    records = [{**item, "image_id": image.id} for image, items in numbered for item in items]
    settings = json.loads((version.files / paths.DECODE_FILE).read_text())
    return ap_scores(val, records, int(settings["max_detections"]))


def labeler_scores(val: CocoData, results: Sequence[Results]) -> MeanScores:
    """`label_utility` of the mask for one point in each object of `val`, in the order of the objects."""
    sums, counts = (np.zeros((len(val.images), val.num_classes)) for _ in range(2))
    for row, (image, items) in enumerate(zip(val.images, results, strict=True)):
        truth = replace(image, annotations=tuple(version_predictions.with_masks(image))).instances()
        masks = rle_api.decode([item["segmentation"] for item in items], image.size)
        utility = label_utility(Instances(image.size, truth.labels, masks=masks), truth).double().numpy()
        np.add.at(sums[row], truth.labels.numpy(), utility)
        np.add.at(counts[row], truth.labels.numpy(), 1)
    return MeanScores(sums, counts)
