"""What a version has to pass before it serves: measured on `val` against the version in production.

A student's score is COCO's mask AP. A labeler has none: it is asked for the mask of a point in each object,
and its score is the mean worth of these: IoU with the object's mask less a half, and a little less than 0
(`labeling.IGNORED`) for a point that it leaves undecided. Both are means over classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines import paths
from pipelines.config.platform_schema import Promote
from pipelines.inference.label_dataset import label_utility
from pipelines.promotion import version_predictions
from pipelines.promotion.gate_result import Check, Verdict
from pipelines.registry.lineage import VAL_DIGEST, val_digest
from pipelines.registry.register import LABELER
from pipelines.registry.versions import Version
from pipelines.runner.run_stage import StageContext
from wssis.data import rle as rle_api
from wssis.data.coco import CocoData
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

NOTHING = "nothing to compare with: no version is in production"
REGISTERED_AP = "student_AP"
SAME_AP = 0.01  # by which the AP of one image at a time, here, may differ from that of the stage evaluate


def examine(candidate: Version, production: Version | None, settings: Promote) -> Verdict:
    """Check a version against the one in production, or by itself where there is none."""
    same = same_val(candidate, production)
    checks = [same, same_signature(candidate, production)]
    if not same.passed:
        missing = [Check(name, False, "not measured") for name in ("answers", "gain", "classes")]
        return Verdict((*checks, *missing))
    val = read_val(points=candidate.name == LABELER)
    answers = version_predictions.ask(candidate, val, candidate.name == LABELER)
    if answers.problem:
        missing = [Check(name, False, "not measured") for name in ("gain", "classes")]
        return Verdict((*checks, Check("answers", False, answers.problem), *missing))
    scores = measure(candidate, val, answers)
    own = mean_of_classes(scores.by_class(np.ones(scores.images)))
    checks.append(_answered(candidate, answers, own))
    numbers = {"score": own}
    if production is None:
        checks += [Check(name, None, NOTHING) for name in ("gain", "classes")]
        return Verdict(tuple(checks), numbers, answers)
    others = version_predictions.kept(production) or version_predictions.ask(
        production, val, production.name == LABELER
    )
    if others.problem:
        found = f"version {production.number}, in production, does not answer: {others.problem}"
        checks += [Check(name, False, found) for name in ("gain", "classes")]
        return Verdict(tuple(checks), numbers, answers)
    result = compare(scores, measure(production, val, others), settings.resamples)
    checks += [gain(result, settings), classes(result, val.class_names, settings)]
    low, high = result.interval()
    numbers |= {
        "production_score": result.production,
        "gain": result.gain,
        "gain_low": low,
        "gain_high": high,
        "sure": result.sure(settings.min_gain),
    }
    return Verdict(tuple(checks), {k: v for k, v in numbers.items() if not np.isnan(v)}, answers)


def same_val(candidate: Version, production: Version | None) -> Check:
    """Whether both were registered with the validation set that lies here."""
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


def same_signature(candidate: Version, production: Version | None) -> Check:
    """Whether whoever asks the version in production can ask this one alike."""
    name = "signature"
    try:
        new = candidate.signature
        if production is None:
            return Check(name, None, NOTHING)
        old = production.signature
    except (InputError, OSError, ValueError) as error:
        return Check(name, False, f"cannot be read: {error}")
    if new == old:
        return Check(name, True, "unchanged")
    given = new.get("params") or []  # those that production lacks have defaults
    missing = [param["name"] for param in old.get("params") or [] if param not in given]
    if missing:
        return Check(name, False, f"lacks params of the version in production: {', '.join(missing)}")
    parts = [key for key in ("inputs", "outputs") if new.get(key) != old.get(key)]
    if not parts:
        return Check(name, True, "takes what the version in production takes")
    return Check(name, False, f"other {' and '.join(parts)}: {json.dumps(new.get(parts[0]))[:200]}")


def read_val(points: bool) -> CocoData:
    """The validation set; with `points`, its images that show an object with a mask."""
    val = StageContext.load(paths.PREPARED_VAL)
    images = tuple(record for record in val.images if not points or version_predictions.masked(record))
    return replace(val, images=images)


def measure(version: Version, val: CocoData, answers: version_predictions.Answers) -> Scores:
    """Scores of a version by image and class."""
    if version.name == LABELER:
        return label_scores(val, answers.results)
    numbered = zip(val.images, answers.results, strict=True)
    results = [{**item, "image_id": record.id} for record, found in numbered for item in found]
    settings = json.loads((version.files / paths.DECODE_FILE).read_text())
    return ap_scores(val, results, int(settings["max_detections"]))


def label_scores(val: CocoData, answers: Sequence[Sequence[dict[str, Any]]]) -> MeanScores:
    """Worth of the masks of one point in each object of `val`, in the order of the objects."""
    sums, counts = (np.zeros((len(val.images), val.num_classes)) for _ in range(2))
    for row, (record, found) in enumerate(zip(val.images, answers, strict=True)):
        truth = replace(record, annotations=tuple(version_predictions.masked(record))).instances()
        masks = rle_api.decode([item["segmentation"] for item in found], record.size)
        each = label_utility(Instances(record.size, truth.labels, masks=masks), truth).double().numpy()
        np.add.at(sums[row], truth.labels.numpy(), each)
        np.add.at(counts[row], truth.labels.numpy(), 1)
    return MeanScores(sums, counts)


def _answered(version: Version, answers: version_predictions.Answers, own: float) -> Check:
    found = f"{len(answers.results)} images in {answers.seconds:.1f} s in a process of its own"
    registered = float(version.tags.get(REGISTERED_AP, "nan"))
    if version.name == LABELER or np.isnan(registered) or np.isnan(own):
        return Check("answers", True, found)
    passed = abs(own - registered) <= SAME_AP
    return Check("answers", passed, f"{found}; AP {own:.3f}, registered with {registered:.3f}")


def gain(result: Comparison, settings: Promote) -> Check:
    """Whether the gain is large enough, and sure enough."""
    low, high = result.interval()
    sure = result.sure(settings.min_gain)
    found = (
        f"{result.candidate:.3f} - {result.production:.3f} = {result.gain:+.3f}, "
        f"95 % interval {low:+.3f} to {high:+.3f}; "
        f"at least {settings.min_gain:g} in {100 * sure:.0f} % of {len(result.resampled)} resamples"
    )
    passed = result.gain >= settings.min_gain and sure >= settings.min_sure
    return Check("gain", passed, found if sure >= settings.min_sure else f"{found} ({_asked(settings)})")


def _asked(settings: Promote) -> str:
    return f"promote.min_sure asks for {100 * settings.min_sure:g} %"


def classes(result: Comparison, names: Sequence[str], settings: Promote) -> Check:
    """Whether no class loses too much."""
    lost = {
        name: float(value)
        for name, value in zip(names, result.by_class, strict=True)
        if value < -settings.max_class_loss
    }
    if lost:
        words = ", ".join(f"{name} {value:+.3f}" for name, value in sorted(lost.items(), key=lambda x: x[1]))
        return Check("classes", False, f"{words}; promote.max_class_loss is {settings.max_class_loss:g}")
    known = [(float(v), name) for v, name in zip(result.by_class, names, strict=True) if not np.isnan(v)]
    worst = min(known, default=(0.0, "none"))
    return Check("classes", True, f"the least is {worst[1]} {worst[0]:+.3f}")
