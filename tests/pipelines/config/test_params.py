"""params.yaml: what is refused, in one line that names the file, the key and a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.config.params import (
    differences,
    flatten,
    load_params,
    load_sections,
    parse,
    read_yaml,
    rules_in_force,
    write_yaml,
)
from pipelines.config.presets import load_preset
from pipelines.config.schema import TunedPseudo
from wssis.errors import InputError

SHIPPED = Path(__file__).parents[3] / "params.yaml"


def changed(tmp_path: Path, key: str, line: str) -> Path:
    """The shipped params with the first line of a key (with its indentation) replaced."""
    text, count = re.subn(rf"^{key}:.*$", line, SHIPPED.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("key", "line", "words"),
    [
        ("  strong", "  strong: 1.5", ("split.strong", "less than or equal to 1", "1.5")),
        ("  strong", "  strong: 0", ("split.strong", "greater than 0")),
        ("  strong", "  strong: 'x'", ("split.strong", "number", '"x"')),
        ("  strong", "  strong: .inf", ("split.strong", "finite")),
        ("  strong", "  stong: 0.1", ("split.stong", "unknown key", "Did you mean strong?")),
        ("seed", "seed: 0\nseed: 1", ("line 4", "duplicate key")),
        ("seed", "seed: 1.5", ("seed", "integer", "1.5")),
        ("seed", "seed: true", ("seed", "integer")),
        ("seed", "sed: 0", ("sed", "unknown key", "Did you mean seed?")),
        ("  source", "  source: coco", ("data", "data.train", "source is coco")),
        ("  source", "  source: pascal", ("data.source", "'shapes' or 'coco'", "pascal")),
        ("  train", "  train: {annotation: a}", ("data.train", "annotation")),
        ("    train", "    train: 0", ("data.shapes.train", "greater than or equal to 1", "0")),
        ("  n_trials", "  n_trials: -1", ("tune_refiner.n_trials", "greater than or equal to 0")),
        ("  mask_threshold", "  mask_threshold: 2", ("pseudo", "mask_threshold")),
        ("  own_point", "  own_pont: 0.5", ("pseudo.own_pont", "Did you mean own_point?")),
        ("  snapshots", "  snapshots: [0.9, 0.5]", ("teacher", "ascending")),
        ("    nms", "    nms: soft", ("evaluate.decode.nms", "'matrix'", "soft")),
        ("  experiment", "  experiment: ''", ("tracking.experiment",)),
        ("pseudo", "pseudo: [", ("line", "expected YAML")),
        ("prices", "prices: null\nx:", ("prices",)),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, key: str, line: str, words: tuple[str, ...]) -> None:
    path = changed(tmp_path, key, line)
    with pytest.raises(InputError) as caught:
        load_params(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for word in words:
        assert word in message


def without(tmp_path: Path, *sections: str) -> Path:
    """The shipped params as they were before these sections."""
    text = SHIPPED.read_text()
    for name in sections:
        text, count = re.subn(rf"^{name}:.*\n(?: .*\n|\n)*", "", text, flags=re.MULTILINE)
        assert count == 1
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_the_lines_to_add_are_told_and_are_what_is_missing(tmp_path: Path) -> None:
    path = without(tmp_path, "promote", "compare", "tracking")
    with pytest.raises(InputError, match=r"params\.yaml, promote, compare, tracking: .*found none") as caught:
        load_params(path)
    lines = re.findall("`([^`]+)`", caught.value.remedy)
    assert len(lines) == 3
    path.write_text(path.read_text() + "\n" + "\n".join(lines) + "\n")
    assert load_params(path) == load_params(SHIPPED)
    before, after = SHIPPED.read_text().split("\n  decode:")
    path.write_text(before + after[after.index("\n\n") :])
    with pytest.raises(InputError, match=r"evaluate\.decode.*`decode: {score_threshold.*}` under evaluate"):
        load_params(path)


def test_a_section_can_be_read_where_others_are_missing_or_wrong(tmp_path: Path) -> None:
    path = without(tmp_path, "promote", "optuna", "compare")
    path.write_text(path.read_text().replace("strong: 0.1", "strong: 7"))
    assert load_sections("evaluate", path=path).evaluate == load_params(SHIPPED).evaluate
    for name, words in (
        ("promote", "promote: .*Add `promote: {min_gain: 0.0"),
        ("split", r"split\.strong.*7"),
    ):
        with pytest.raises(InputError, match=words):
            load_sections(name, path=path)


def test_an_int_will_do_for_a_float_and_yaml_1_2_numbers_are_read(tmp_path: Path) -> None:
    assert load_params(changed(tmp_path, "  box", "  box: 7")).prices.box == 7.0
    path = changed(tmp_path, "    learning_rate", "    learning_rate: 2e-3")
    assert load_params(path).teacher.train.learning_rate == 0.002


def test_a_file_that_is_missing_or_binary(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist.*wssis preset"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        load_params(tmp_path / "params.yaml")


def test_other_documents_than_a_mapping(tmp_path: Path) -> None:
    for text in ("", "3", "- 1\n- 2\n", "text"):
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(InputError):
            load_params(tmp_path / "params.yaml")


def test_params_are_frozen() -> None:
    params = load_params(SHIPPED)
    with pytest.raises(Exception, match="frozen"):
        params.seed = 3


def test_flatten_names_leaves() -> None:
    assert flatten({"a": {"b": 1, "c": [2]}, "d": None}) == {"a.b": 1, "a.c": [2], "d": None}
    assert flatten(load_params(SHIPPED))["teacher.train.iterations"] > 0


def test_differences_are_named_by_key(tmp_path: Path) -> None:
    other = load_params(changed(tmp_path, "  strong", "  strong: 0.5"))
    assert differences(load_params(SHIPPED), other) == [
        f"split.strong: {load_params(SHIPPED).split.strong} -> 0.5"
    ]


def test_tuned_rules_hold_only_where_params_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = load_params(SHIPPED)
    with pytest.raises(InputError, match=r"tuned/pseudo\.yaml.*dvc repro"):
        rules_in_force(params)
    write_yaml("tuned/pseudo.yaml", {"pseudo": {"min_confidence": 0.31}}, "a comment")
    assert (tmp_path / "tuned/pseudo.yaml").read_text().startswith("# a comment\n")
    assert rules_in_force(params).min_confidence == 0.31
    off = params.model_copy(
        update={"tune_pseudo": params.tune_pseudo.model_copy(update={"use_tuned": False})}
    )
    assert rules_in_force(off) == params.pseudo


def test_a_tuned_file_is_checked_as_params_are(tmp_path: Path) -> None:
    write_yaml(tmp_path / "t.yaml", {"pseudo": {"min_confidence": 3}})
    with pytest.raises(InputError, match=r"t\.yaml.*min_confidence"):
        parse(read_yaml(tmp_path / "t.yaml"), TunedPseudo, tmp_path / "t.yaml")


def test_levels_of_the_teacher_must_fit_the_model(tmp_path: Path) -> None:
    before, after = SHIPPED.read_text().split("\nteacher:")
    (tmp_path / "params.yaml").write_text(
        before + "\nteacher:" + after.replace("ranges: []", "ranges: [[1, 2]]", 1)
    )
    with pytest.raises(InputError, match="levels of teacher"):
        load_params(tmp_path / "params.yaml")


def test_decoding_must_fit_the_levels(tmp_path: Path) -> None:
    text = SHIPPED.read_text().replace("area_strides: []", "area_strides: [8, 8]", 1)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(InputError, match=r"expected none or 3 of evaluate.*area_strides"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("processes: 1 ", "processes: 9 ", "teacher.train for each of 9 parts"),
        ("processes: 1 ", "processes: 5 ", "refiner.train for each of 5 parts"),
    ],
)
def test_each_process_needs_an_image_of_a_batch(tmp_path: Path, old: str, new: str, found: str) -> None:
    text = SHIPPED.read_text().replace("kind: none ", "kind: torchrun ", 1)
    (tmp_path / "params.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=found):
        load_params(tmp_path / "params.yaml")


def test_the_teachers_own_levels_replace_the_models(tmp_path: Path) -> None:
    params = load_preset(SHIPPED.parent / "presets/coco-05p.yaml")
    assert params.teacher_model.grids != params.model.grids
    assert params.teacher_model.backbone == params.model.backbone
    assert load_params(SHIPPED).teacher_model == load_params(SHIPPED).model


def test_a_key_of_before_says_what_replaced_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED.read_text().replace("  drawn_share: 0.2", "  strong_repeats: 1 #", 1))
    with pytest.raises(InputError, match=r"student\.strong_repeats: .*drawn_share: null"):
        load_params(path)
