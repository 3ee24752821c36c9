"""`fit`, `validate`, `test` and `predict` in this process: what they write, print and refuse."""

import json
import socket
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_rlhf.callbacks import Opening, RunCheckpoint, default_callbacks
from lit_rlhf.cli import main
from lit_rlhf.cli.directories import RECORD
from lit_rlhf.cli.runs import Run
from lit_rlhf.cli.trainer import with_defaults

SMALL = (
    "--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.callbacks=[]", "--data.size=64",
    "--data.batch_size=8", "--data.val_size=8",
)
"""The quick start without its exact measure."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with the run `runs/mine`."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *SMALL, "--run=mine"]) == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def there(trained, monkeypatch):
    monkeypatch.chdir(trained)


def last(run):
    return torch.load(Path("runs") / run / "checkpoints" / "last.ckpt", weights_only=True)


def steps(run):
    return last(run)["global_step"]


def same_weights(*runs):
    a, b = (last(run)["state_dict"] for run in runs)
    return bool(a) and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- what a run leaves


def test_a_run_has_one_directory_with_everything_in_it(there):
    names = {path.name.partition(".tfevents")[0] for path in Path("runs/mine").iterdir()}
    assert names == {
        "checkpoints", "config.yaml", "data.md", "environment.json", "events.out", "given", "hparams.yaml", "parts",
        "samples.jsonl",
    }
    assert {path.name for path in Path("runs/mine/checkpoints").iterdir()} == {"last.ckpt", "best-val_loss.ckpt"}
    assert [path.name for path in Path().iterdir()] == ["runs"]


def test_the_record_has_the_resolved_configuration_the_files_and_the_command(there):
    resolved = yaml.safe_load(Path("runs/mine/config.yaml").read_text())
    assert resolved["run"] == "mine" and resolved["version"] == 1 and resolved["trainer"]["max_steps"] == 4
    assert resolved["model"]["init_args"]["max_grad_norm"] == 1.0 and "ckpt_path" not in resolved
    assert resolved["trainer"]["logger"] is None and resolved["trainer"]["default_root_dir"] is None
    given = json.loads((Path("runs/mine") / RECORD).read_text())
    assert given == {"after": None, "commands": [["fit", *SMALL, "--run=mine"]]}
    assert Path("runs/mine/given/1-quickstart.yaml").read_text().startswith("# python -m lit_rlhf fit")


def test_the_resolved_configuration_gives_the_same_run_again(there, tmp_path):
    assert main(["fit", "--config=runs/mine/config.yaml", "--run=again"]) == 0
    assert same_weights("mine", "again")


# ---- going on


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_stopped(here):
    words = ["fit", *SMALL, "--trainer.max_steps=6", "--model.schedule=null"]  # a schedule is planned over max_steps
    assert main([*words, "--run=whole"]) == 0
    assert main([*words, "--run=cut", "--trainer.max_steps=3", "--ckpt_path=last"]) == 0
    assert main([*words, "--run=cut", "--ckpt_path", "last"]) == 0
    assert steps("whole") == steps("cut") == 6 and same_weights("whole", "cut")
    points = [EventAccumulator(f"runs/{run}").Reload().Scalars("val/loss") for run in ("whole", "cut")]
    assert [(p.step, p.value) for p in points[0]] == [(p.step, p.value) for p in points[1]]


def test_a_finished_run_says_so(there, capsys):
    assert main(["fit", *SMALL, "--run=mine", "--ckpt_path=last"]) == 0
    assert "nothing is left to do: the checkpoint has 4 updates" in capsys.readouterr().out


def test_a_used_name_is_refused_before_anything_is_written(there, capsys):
    before = {path: path.stat().st_mtime_ns for path in Path("runs/mine").rglob("*")}
    assert main(["fit", *SMALL, "--run=mine"]) == 2
    assert "--ckpt_path last" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in Path("runs/mine").rglob("*")}


# ---- the other commands


def test_validation_prints_every_metric_of_the_checkpoint_that_is_named(there, capsys):
    assert main(["validate", "--ckpt_path=runs/mine:last"]) == 0
    shown = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(("val/", "udrra/")))
    logged = EventAccumulator("runs/mine").Reload()
    names = {name for name in logged.Tags()["scalars"] if name.startswith(("val/", "udrra/"))} - {"val/sampled_length"}
    assert set(shown) == names
    assert float(shown["val/loss"]) == pytest.approx(logged.Scalars("val/loss")[-1].value, rel=1e-5)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_looking_at_a_run_changes_none_of_its_files(command, there):
    before = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}
    assert main([command, "--run=mine", "--ckpt_path=best"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*")}


def test_predictions_go_to_the_run_and_are_one_per_completion(there):
    assert main(["predict", "--run=mine", "--ckpt_path=last", "--data.val_size=5"]) == 0
    lines = [json.loads(line) for line in Path("runs/mine/predictions.jsonl").read_text().splitlines()]
    Path("runs/mine/predictions.jsonl").unlink()
    assert len(lines) == 5 * 4 and all(line["log_prob"] < 0 and line["reference_log_prob"] < 0 for line in lines)


def test_check_says_what_would_run_and_reads_and_writes_nothing(here, capsys, monkeypatch):
    monkeypatch.setattr("lit_rlhf.components.origin.Origin.network", lambda *a: pytest.fail("weights were read"))
    assert main(["fit", *SMALL, "--check"]) == 0
    shown = capsys.readouterr().out
    assert "train: 64 rows, 64 kept" in shown
    assert shown.endswith("Algorithm on Reviews: everything fits. It would write runs/quickstart\n")
    assert not list(Path().iterdir())


# ---- endings


def test_a_termination_keeps_the_checkpoint_and_is_143(here, capsys):
    assert main(["fit", *SMALL, "--trainer.callbacks=[{class_path: breaking.Signalled}]"]) == 143
    assert steps("quickstart") == 2
    kept = "runs/quickstart/checkpoints/last.ckpt is kept; the same command with --ckpt_path last continues from it"
    assert capsys.readouterr().err == f"terminated; {kept}\n"


def test_out_of_memory_is_answered_with_a_smaller_number_that_changes_no_result(here, capsys):
    words = ["--trainer.callbacks=[{class_path: breaking.OutOfMemory}]", "--data.micro_batch_tokens=100"]
    assert main(["fit", *SMALL, *words]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "data.micro_batch_tokens=100. A smaller one changes no result" in shown
    assert "--data.micro_batch_tokens=50" in shown


def test_an_unknown_failure_keeps_its_traceback_and_names_the_checkpoint(here, capsys):
    assert main(["fit", *SMALL, "--trainer.callbacks=[{class_path: breaking.Broken}]"]) == 1
    *_, odd, kept = capsys.readouterr().err.splitlines()
    assert odd == "LookupError: odd" and kept.startswith("runs/quickstart/checkpoints/last.ckpt is kept")
    assert steps("quickstart") == 1


def test_a_checkpoint_of_another_model_is_refused_in_a_line(there, tmp_path, capsys):
    torch.save(last("mine") | {"state_dict": {"actor.odd": torch.ones(1)}}, tmp_path / "other.ckpt")
    assert main(["validate", "--config=runs/mine/config.yaml", f"--ckpt_path={tmp_path / 'other.ckpt'}"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "embed_tokens" in shown
    assert shown.startswith("ckpt_path: the checkpoint is of another model")


def test_a_file_that_is_no_checkpoint_of_ours_is_refused_in_a_line(there, tmp_path, capsys):
    foreign = {"state_dict": {}, "pytorch-lightning_version": "2.6.0", "global_step": 0, "epoch": 0}
    torch.save(foreign, tmp_path / "other.ckpt")
    assert main(["validate", "--config=runs/mine/config.yaml", f"--ckpt_path={tmp_path / 'other.ckpt'}"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "ckpt_path: " in shown


# ---- mistakes, one line each and 2, and nothing is left behind


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data.batch_size=0"], "--data.batch_size=0: 0, expected 1 or more"),
        (["--model.optimizer.lr=-1"], "model.optimizer: Invalid learning rate: -1.0"),
        (["--trainer.accelerator=tpu"], "Trainer: "),
        (["--trainer.callbacks=[{class_path: EarlyStopping, init_args: {monitor: val/los}}]"], "mean 'val/loss'?"),
        (["--model.actor.model=no/such/folder"], "no/such/folder: "),
        (["--data.micro_batch_tokens=4"], "data.micro_batch_tokens"),
        (["--ckpt_path=nowhere.ckpt"], "--ckpt_path=nowhere.ckpt: there is no checkpoint nowhere.ckpt"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_no_directory(words, said, here, capsys):
    assert main(["fit", *SMALL, *words]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and said in shown
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (None, "no such file"), ("", "rows.jsonl: "),
        ('{"question": "a", "good": "b", "rejected": "c"}', "good, question, rejected"),
    ],
)
@pytest.mark.parametrize("command", [["fit"], ["fit", "--check"], ["data"]], ids=" ".join)
def test_data_that_cannot_be_read_are_answered_in_a_line(command, rows, said, here, capsys):
    if rows is not None:
        Path("rows.jsonl").write_text(rows)
    Path("own.yaml").write_text(yaml.safe_dump({
        "model": {"class_path": "Algorithm", "init_args": {
            "actor": {"class_path": "Actor", "init_args": {"model": "lit_rlhf/reviews"}},
            "loss": "PRA", "reference": "FrozenCopy",
        }},
        "data": {"class_path": "Files", "init_args": {
            "train": "rows.jsonl", "batch_size": 4, "micro_batch_tokens": 512, "cache_dir": "cache",
        }},
    }))
    assert main([*command, "--config", "own.yaml"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and said in shown and not Path("runs").exists()


# ---- what is added


def test_a_configured_callback_takes_the_place_of_the_default_of_its_class():
    class Own(RunCheckpoint):
        pass

    own, run = Own("elsewhere"), Run("x")
    trainer = {"callbacks": [own], "enable_progress_bar": True, "enable_checkpointing": None}
    found = with_defaults(trainer, run)
    assert own in found and len(found) == len(default_callbacks(run.folder))
    assert sum(isinstance(callback, RunCheckpoint) for callback in found) == 1


def test_without_checkpoints_none_is_added():
    trainer = {"callbacks": Opening(), "enable_progress_bar": False, "enable_checkpointing": False}
    assert not any(isinstance(callback, RunCheckpoint) for callback in with_defaults(trainer, Run("x")))


def test_a_run_opens_no_connection(here, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection: {args}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert main(["fit", *SMALL]) == 0 and main(["predict", "--ckpt_path=runs/quickstart"]) == 0
