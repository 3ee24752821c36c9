"""Files and overrides become one tree; every value knows its place; all mistakes come at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from lit_rlhf.config import ConfigErrors, compose

BASE = """
version: 1
run: first
vars: {rate: 0.1, data: {path: rows.jsonl}}
model:
  class_path: lit_rlhf.algorithms.base.Algorithm
  init_args:
    loss:
      class_path: lit_rlhf.losses.pra.PRA
      init_args:
        tau: 0.5
        reduce: mean
    reference: FrozenCopy
    optimizer:
      class_path: torch.optim.AdamW
      lr: ${vars.rate}
data:
  class_path: lit_rlhf.data.modules.Files
  init_args:
    train: ${vars.data.path}
    test: ${vars.data.path}
trainer:
  max_steps: 10
  callbacks:
    - class_path: A
      patience: 1
    - B
"""


@pytest.fixture
def base(tmp_path, monkeypatch):
    """The arguments of a configuration in the working directory, and a function that writes others."""
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE)
    return ["--config", "base.yaml"]


def over(text, *overrides):
    Path("over.yaml").write_text(text)
    return ["--config=base.yaml", "--config=over.yaml", *overrides]


def mistakes(arguments):
    with pytest.raises(ConfigErrors) as refused:
        compose(arguments)
    return refused.value.lines


def test_the_tree_has_no_vars_version_or_run_and_no_interpolation(base):
    composed = compose(base)
    assert composed.run == "first" and composed.files == (Path("base.yaml"),) and composed.overrides == ()
    assert list(composed.tree) == ["model", "data", "trainer"]
    assert composed.tree["data"]["init_args"] == {"train": "rows.jsonl", "test": "rows.jsonl"}


def test_an_override_of_vars_is_read_from_every_place(base):
    composed = compose([*base, "--vars.data.path=mine.jsonl", "--vars.rate", "1e-3"])
    assert composed.tree["data"]["init_args"] == {"train": "mine.jsonl", "test": "mine.jsonl"}
    assert composed.tree["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.001
    assert composed.overrides == ("--vars.data.path=mine.jsonl", "--vars.rate=1e-3")


def test_an_override_wins_over_an_interpolation_and_over_every_file(base):
    arguments = over("trainer: {max_steps: 20}", "--trainer.max_steps=30", "--model.optimizer.lr=2")
    tree = compose([*arguments[2:], *arguments[:2]]).tree
    assert tree["trainer"]["max_steps"] == 30
    assert tree["model"]["init_args"]["optimizer"]["init_args"] == {"lr": 2}


def test_mappings_merge_and_lists_replace(base):
    tree = compose(over("trainer: {devices: 2, callbacks: [C]}")).tree
    assert tree["trainer"] == {"max_steps": 10, "callbacks": ["C"], "devices": 2}


@pytest.mark.parametrize("text, overrides", [
    ("trainer: {callbacks+: [C]}", ()),
    ("trainer: {callbacks+: C}", ()),
    ("trainer: {devices: 1}", ("--trainer.callbacks+=C",)),
    ("trainer: {devices: 1}", ("--trainer.callbacks+=[C]",)),
    ("trainer: {devices: 1}", ("--trainer.callbacks+", "C")),
])
def test_plus_appends(base, text, overrides):
    added = compose(over(text, *overrides)).tree["trainer"]["callbacks"]
    assert added == [{"class_path": "A", "init_args": {"patience": 1}}, "B", "C"]


def test_plus_begins_a_list_that_is_not_there(base):
    assert compose([*base, "--trainer.plugins+=P"]).tree["trainer"]["plugins"] == ["P"]


def test_init_args_may_be_left_out_below_a_class(base):
    tree = compose(over("model: {loss: {tau: 0.2}}", "--model.init_args.loss.reduce=sum")).tree
    assert tree["model"]["init_args"]["loss"] == {
        "class_path": "lit_rlhf.losses.pra.PRA", "init_args": {"tau": 0.2, "reduce": "sum"},
    }


@pytest.mark.parametrize("text, overrides, expected", [
    ("model: {loss: RDA}", (), "RDA"),
    ("model: {loss: {class_path: RDA}}", (), {"class_path": "RDA"}),
    ("model: {max_grad_norm: 1}", ("--model.loss=my_heads.Mine",), "my_heads.Mine"),
    ("model: {loss: RDA}", ("--model.loss.tau=3",), {"class_path": "RDA", "init_args": {"tau": 3}}),
    ("model: {loss: {class_path: RDA, tau: 3}}", (), {"class_path": "RDA", "init_args": {"tau": 3}}),
])
def test_a_new_class_starts_from_its_own_defaults(base, text, overrides, expected):
    assert compose(over(text, *overrides)).tree["model"]["init_args"]["loss"] == expected


@pytest.mark.parametrize("written", ["PRA", "lit_rlhf.losses.pra.PRA", "{class_path: PRA}"])
def test_the_same_class_keeps_its_arguments(base, written):
    model = compose([*base, f"--model.loss={written}"]).tree["model"]
    assert model["init_args"]["loss"]["init_args"] == {"tau": 0.5, "reduce": "mean"}


def test_arguments_may_come_before_their_class(base):
    Path("before.yaml").write_text("model: {loss: {tau: 0.7}, max_grad_norm: 2}")
    model = compose(["--config=before.yaml", *base]).tree["model"]
    assert model["init_args"]["max_grad_norm"] == 2
    assert model["init_args"]["loss"]["init_args"] == {"tau": 0.5, "reduce": "mean"}


def test_elements_of_lists_are_reached_by_index(base):
    tree = compose([*base, "--trainer.callbacks.0.patience=5", "--trainer.callbacks.1.x=1"]).tree
    assert tree["trainer"]["callbacks"] == [
        {"class_path": "A", "init_args": {"patience": 5}}, {"class_path": "B", "init_args": {"x": 1}},
    ]


def test_null_removes_a_part(base):
    assert compose([*base, "--model.reference=null"]).tree["model"]["init_args"]["reference"] is None


def test_the_default_is_for_no_config_alone(base):
    assert compose([], default="base.yaml").files == (Path("base.yaml"),)
    Path("other.yaml").write_text("trainer: {}")
    assert compose(["--config=other.yaml"], default="base.yaml").tree == {"trainer": {}}


def test_environment_variables_are_read(base, monkeypatch):
    monkeypatch.setenv("RATE", "0.25")
    tree = compose([*base, "--trainer.a=${oc.env:RATE}", "--trainer.b=${oc.decode:${oc.env:RATE}}"]).tree
    assert tree["trainer"]["a"] == "0.25" and tree["trainer"]["b"] == 0.25


@pytest.mark.parametrize("path, place", [
    ("model.loss.tau", "base.yaml:11"),
    ("model.init_args.loss.init_args.tau", "base.yaml:11"),
    ("model.loss.reduce", "over.yaml:2"),
    ("model.loss.nothing", "base.yaml:8"),
    ("trainer.callbacks.0.patience", "base.yaml:26"),
    ("trainer.max_steps", "--trainer.max_steps=3"),
    ("trainer.callbacks.2", "--trainer.callbacks+=C"),
    ("run", "base.yaml:3"),
])
def test_a_place_is_the_one_that_set_the_value_last(base, path, place):
    composed = compose(over("model:\n  loss: {reduce: sum}\n", "--trainer.max_steps", "3", "--trainer.callbacks+=C"))
    assert composed.place(path) == place


def test_all_mistakes_come_at_once_with_their_places(base):
    lines = mistakes(over(
        "model:\n  x: ${vars.rat}\n", "word", "--vars.rte=1", "--trainer.max_steps.x=1", "--trainer.callbacks.2.y=1",
        "--trainer.max_steps+=1", "--version=1", "--run=[1]", "--trainer.z=${nothing.here}", "--trainer.last",
    ))
    assert [line.partition(": ")[0] for line in lines] == [
        "'word'", "--trainer.last", "--vars.rte=1", "--trainer.max_steps.x=1", "--trainer.callbacks.2.y=1",
        "--trainer.max_steps+=1", "--version=1", "over.yaml:2", "--trainer.z=${nothing.here}", "--run=[1]",
    ]
    assert "did you mean rate?" in lines[2] and "base.yaml:23" in lines[3]
    assert lines[7] == "over.yaml:2: model.x: ${vars.rat}: there is no vars.rat; did you mean vars.rate?"


def test_files_that_cannot_be_read_are_all_named(base):
    Path("broken.yaml").write_text("model: [\n")
    Path("empty.yaml").write_text("# nothing\n")
    lines = mistakes(["--config=broken.yaml", "--config=bas.yaml", "--config=empty.yaml", "--vars.unknown=1"])
    assert [line.partition(": ")[0] for line in lines] == ["--config=bas.yaml", "broken.yaml:2:1", "empty.yaml"]
    assert "base.yaml" in lines[0]


@pytest.mark.parametrize("given, name", [("a/b", "a/b"), ("7", "7"), ("null", None)])
def test_the_run_is_text(base, given, name):
    assert compose([*base, f"--run={given}"]).run == name


def test_old_names_are_rewritten_with_a_line_each(base, monkeypatch):
    from lit_rlhf.config import versions

    change = {"lit_rlhf.losses.pra.PRA": {"strength": versions.Change("tau", since=2)}}
    monkeypatch.setattr(versions, "RENAMED", change)
    composed = compose(over("model: {loss: {strength: 0.9}}"))
    assert composed.tree["model"]["init_args"]["loss"]["init_args"]["tau"] == 0.9
    said = "strength is called tau since version 2; the old name is read for one release"
    assert composed.warnings == (f"over.yaml:1: {said}",)


def test_composing_imports_nothing_heavy(base):
    heavy = ("torch", "lightning", "jsonargparse", "transformers", "datasets", "numpy")
    code = (
        "import sys; from lit_rlhf.config import compose; compose(['--config=base.yaml']); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    path = {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=path, check=True)
    assert run.stdout.strip() == "[]"
