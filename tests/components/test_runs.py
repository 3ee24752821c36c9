"""Runs as models: which checkpoint is meant, and sentences for what is not there."""

import os

import pytest
import torch

from lit_rlhf.components.runs import find_checkpoint, is_run, load_part, model_part, part_description
from lit_rlhf.errors import InputError


@pytest.fixture
def run(tmp_path):
    """A run with an actor and a last checkpoint."""
    folder = tmp_path / "runs" / "dpo"
    (folder / "parts" / "actor").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    save(folder, "last", "actor.model.net.weight", 1.0)
    return folder


def save(folder, name, key, value):
    path = folder / "checkpoints" / f"{name}.ckpt"
    torch.save({"state_dict": {key: torch.tensor(value), "critic.weight": torch.tensor(-1.0)}}, path)
    return path


def test_the_best_where_one_is_monitored_else_the_last(run):
    last = run / "checkpoints" / "last.ckpt"
    assert find_checkpoint(str(run)) == find_checkpoint(f"{run}:last") == last
    with pytest.raises(InputError, match="has no best checkpoint.*dpo:last names its last"):
        find_checkpoint(f"{run}:best")
    old, best = (save(run, f"best-{metric}", "actor.model.net.weight", 2.0) for metric in ("val_loss", "val_reward"))
    os.utime(old, (0, 0))
    assert find_checkpoint(str(run)) == find_checkpoint(f"{run}:best") == best
    assert find_checkpoint(f"{run}:last") == last


def test_only_the_weights_asked_for_are_given(run):
    assert load_part(str(run), "actor.model.net.") == {"weight": torch.tensor(1.0)}
    with pytest.raises(InputError, match="no weight begins with 'reward.head.'; it has weights of actor, critic"):
        load_part(str(run), "reward.head.")


def test_what_names_a_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_run("runs/dpo") and is_run("runs/dpo:best") and is_run("runs/dp")  # its neighbour is a run
    assert not is_run("Qwen/Qwen3-0.6B") and not is_run("dpo") and not is_run("runs")
    begun, model = tmp_path / "begun", tmp_path / "model"
    for folder, file in ((begun, "config.yaml"), (model, "config.json")):
        folder.mkdir()
        (folder / file).touch()
    assert is_run(str(begun)) and not is_run(str(model))


def test_a_run_that_is_not_there(run):
    with pytest.raises(InputError, match=r"runs/dpoo: no such run; did you mean .*runs/dpo\?"):
        find_checkpoint(str(run.with_name("dpoo")))
    with pytest.raises(InputError, match=r"runs/x: no such run; .*runs has dpo"):
        part_description(str(run.with_name("x")))
    with pytest.raises(InputError, match="no such run$"):
        find_checkpoint("/nowhere/x:last")


def test_a_run_that_has_just_begun(run):
    (run / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(InputError, match="no checkpoint yet"):
        find_checkpoint(str(run))
    (run / "parts" / "actor").rmdir()
    with pytest.raises(InputError, match="has no model; its parts are none"):
        model_part(str(run))


def test_parts(run):
    assert model_part(str(run)) == "actor" and part_description(f"{run}:last") == run / "parts" / "actor"
    with pytest.raises(InputError, match="no part 'critic'; it has actor"):
        part_description(str(run), "critic")
    (run / "parts" / "actor").rename(run / "parts" / "reward")
    assert model_part(str(run)) == "reward"
