"""Names, numbers, directories and checkpoints of runs."""

import json
from pathlib import Path

import pytest

from lit_rlhf.cli import directories, runs
from lit_rlhf.cli.directories import RECORD
from lit_rlhf.cli.runs import Request, Run
from lit_rlhf.errors import InputError

DPO = (Path("configs/dpo.yaml"),)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def request_of(*words, command="fit", name=None, files=DPO, asked=None):
    return Request(command, words, name, files, asked, lambda key: f"--{key}=given")


def made(name, *checkpoints, after=None):
    folder = Path("runs") / name
    (folder / "checkpoints").mkdir(parents=True)
    for checkpoint in checkpoints:
        (folder / "checkpoints" / checkpoint).touch()
    if after is not None:
        (folder / "given").mkdir()
        (folder / RECORD).write_text(json.dumps({"after": after, "commands": []}))
    return folder


# ---- names


def test_without_a_name_a_run_is_called_after_its_last_config_and_numbered_above_all_that_are_there():
    assert runs.decide(request_of(files=(Path("base/cpu.yaml"), *DPO))).name == "dpo"
    made("dpo")
    assert runs.decide(request_of()).name == "dpo-2"
    made("dpo-7", after="dpo")
    made("dpo-extra")
    assert runs.decide(request_of()).name == "dpo-8"


def test_a_named_run_on_a_used_directory_is_refused_with_the_lines_that_would_go_on():
    made("mine")
    with pytest.raises(InputError) as refused:
        runs.decide(request_of("--config", "dpo", "--run=mine", "--x.y=a b", name="mine"))
    first, goes_on, another = str(refused.value).splitlines()
    assert first == "--run=given: runs/mine has a run already"
    assert goes_on.endswith("python -m lit_rlhf fit --config dpo --run=mine '--x.y=a b' --ckpt_path last")
    assert another.endswith("python -m lit_rlhf fit --config dpo '--x.y=a b' --run=mine-2")


def test_a_directory_with_other_runs_below_it_is_free_and_one_with_a_file_is_not():
    made("hh/dpo")
    assert runs.decide(request_of(name="hh")).folder == Path("runs/hh")
    Path("runs/hh/notes.txt").touch()
    with pytest.raises(InputError, match="has a run already"):
        runs.decide(request_of(name="hh"))


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/../b", ".hidden", "a b", "x:best", ""])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(InputError, match="no name of a run"):
        runs.decide(request_of(name=name))


@pytest.mark.parametrize("name", ["a", "hh_harmless/dpo-fold0", "lr=0.1,tau=2"])
def test_names_may_have_parts_and_values(name):
    assert runs.decide(request_of(name=name)) == Run(name, None, None, True, f"run: runs/{name}")


# ---- checkpoints


def test_last_continues_the_highest_number_that_was_called_after_the_same_config():
    made("dpo", "last.ckpt")
    made("dpo-2", "last.ckpt", after="dpo")
    made("dpo-3", "last.ckpt")  # has this name by --run
    run = runs.decide(request_of(asked="last"))
    assert run.checkpoint == Path("runs/dpo-2/checkpoints/last.ckpt") and run.name == "dpo-2" and not run.fresh


@pytest.mark.parametrize("before", [None, "died before its first checkpoint"])
def test_last_of_a_first_start_says_so_and_starts(before):
    if before:
        made("mine")
    run = runs.decide(request_of(name="mine", asked="last"))
    assert run.checkpoint is None and run.name == "mine" and "no checkpoint yet" in run.note


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_only_fit_does_without_a_last_checkpoint(command):
    made("mine")
    with pytest.raises(InputError, match="no checkpoint"):
        runs.decide(request_of(command=command, name="mine", asked="last"))


@pytest.mark.parametrize(
    ("asked", "file"),
    [("best", "best-val_loss.ckpt"), ("runs/mine", "best-val_loss.ckpt"), ("runs/mine:last", "last.ckpt"),
     ("runs/mine/checkpoints/last.ckpt", "last.ckpt")],
)
def test_a_checkpoint_is_named_by_its_kind_its_run_or_its_path(asked, file):
    made("mine", "last.ckpt", "best-val_loss.ckpt")
    name = "mine" if asked == "best" else None
    run = runs.decide(request_of(command="predict", name=name, asked=asked))
    assert run.checkpoint == Path("runs/mine/checkpoints") / file and run.name == "mine"


def test_a_run_from_the_checkpoint_of_another_is_a_new_run():
    made("other", "last.ckpt")
    made("mine", "last.ckpt")
    run = runs.decide(request_of(asked="runs/other"))
    assert run.name == "dpo" and run.checkpoint.parts[1] == "other" and run.fresh
    with pytest.raises(InputError, match="has a run already"):
        runs.decide(request_of(name="mine", asked="runs/other"))


@pytest.mark.parametrize("asked", ["no.ckpt", "runs/no", "runs/mine:best"])
def test_a_checkpoint_that_is_not_there_is_refused(asked):
    made("mine", "last.ckpt")
    with pytest.raises(InputError, match="no "):
        runs.decide(request_of(asked=asked))


def test_validation_of_the_models_as_configured_writes_nothing_and_needs_no_free_name():
    made("dpo", "last.ckpt")
    assert runs.decide(request_of(command="validate")) == Run("dpo")


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [("mine", "last", True), (None, "runs/mine", True), (None, "runs/mine:best", True),
     (None, "runs/mine/checkpoints/last.ckpt", True), (None, "last", False), ("mine", None, False),
     ("no", "last", False)],
)
def test_the_configuration_of_a_run_whose_checkpoint_is_asked_for(name, asked, expected):
    (made("mine", "last.ckpt") / "config.yaml").touch()
    assert directories.config_of(name, asked) == (Path("runs/mine/config.yaml") if expected else None)


# ---- directories


def test_two_processes_that_start_at_once_get_two_directories():
    first, second = runs.claim(request_of()), runs.claim(request_of())
    assert (first.name, second.name) == ("dpo", "dpo-2") and first.folder.is_dir() and second.folder.is_dir()


def test_where_no_directory_can_be_made_a_line_says_why():
    Path("runs").touch()
    with pytest.raises(InputError, match=r"^runs/dpo: cannot be made \(Not a directory\)"):
        runs.claim(request_of())


@pytest.mark.parametrize("asked", ["last", "best"])
def test_a_checkpoint_of_the_run_itself_is_printed(asked):
    made("dpo", "last.ckpt", "best-val_loss.ckpt")
    run = runs.decide(request_of(command="validate", asked=asked))
    assert run.note == f"run: runs/dpo, from {run.checkpoint}"


def test_a_run_that_did_not_begin_leaves_nothing():
    run = runs.claim(request_of())
    (run.folder / "events.out.tfevents.1").touch()
    runs.release(run)
    assert not Path("runs").exists()


def test_a_run_that_began_is_kept():
    run = runs.claim(request_of())
    (run.folder / "events.out.tfevents.1").touch()
    (run.folder / "config.yaml").touch()
    runs.release(run)
    assert len(list(run.folder.iterdir())) == 2


def test_the_record_has_every_start():
    run = Run("dpo-2", None, "dpo", True)
    run.folder.joinpath("given").mkdir(parents=True)
    for words in (["fit"], ["fit", "--ckpt_path", "last"]):
        (run.folder / RECORD).write_text(directories.started(run.folder, run.after, words))
    recorded = json.loads((run.folder / RECORD).read_text())
    assert recorded == {"after": "dpo", "commands": [["fit"], ["fit", "--ckpt_path", "last"]]}
    assert directories.called_after(run.folder) == "dpo"
