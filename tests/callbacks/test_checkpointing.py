"""Checkpoints: when they are written, what they hold, and that every one of them continues the same run."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from pathlib import Path

import pytest
import torch
from lightning import Callback, Trainer, seed_everything
from toy import Toy, ToyData, state_of

from lit_rlhf.callbacks.checkpoint_io import AtomicCheckpointIO
from lit_rlhf.callbacks.checkpointing import RunCheckpoint
from lit_rlhf.errors import InputError

EVERY = {"val_check_interval": 2}
CASES = {  # of a run of four items an epoch
    "epochs": {"max_epochs": 2},
    "validation within epochs": {"max_epochs": 2, "val_check_interval": 2},
    "validation by items": {"max_steps": 7, "val_check_interval": 3, "check_val_every_n_epoch": None},
    "steps": {"max_steps": 6, "val_check_interval": 4},
    "limited epochs": {"max_epochs": 2, "limit_train_batches": 3},
    "no validation": {"max_epochs": 2, "limit_val_batches": 0},
    "every second epoch": {"max_epochs": 3, "limit_train_batches": 2, "check_val_every_n_epoch": 2},
}


class Keep(Callback):
    """Copies `last.ckpt` after every event that may have written it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.kept = folder, {}

    def look(self, *_, **__) -> None:
        last = self.folder / "last.ckpt"
        if last.exists():
            content = last.read_bytes()
            if content not in self.kept.values():
                self.kept[f"{len(self.kept)}.ckpt"] = content

    on_train_batch_start = on_validation_start = on_train_epoch_start = on_fit_end = look


logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def run(folder: Path, module: Toy, checkpoint: RunCheckpoint | None = None, resume: str | None = None, **settings):
    seed_everything(7, verbose=False)
    data = ToyData(4, validation=0 if settings.get("limit_val_batches") == 0 else 2)
    checkpoint = checkpoint or RunCheckpoint(folder, every_n_updates=1)
    keep = Keep(folder)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    endless = {"max_epochs": -1} if "max_steps" in settings else {}
    trainer = Trainer(callbacks=[keep, checkpoint], **quiet, **endless | settings)
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    keep.look()
    return trainer, keep.kept


@pytest.mark.parametrize("name", CASES)
def test_every_checkpoint_continues_the_same_run(tmp_path, name):
    settings = CASES[name]
    whole = Toy()
    trainer, kept = run(tmp_path / "a", whole, **settings)
    assert len(kept) >= whole.items_done
    for file, content in kept.items():
        (tmp_path / file).write_bytes(content)
        resumed = Toy()
        again, _ = run(tmp_path / "b", resumed, resume=str(tmp_path / file), **settings)
        done = torch.load(tmp_path / file, weights_only=True)["run"]["items"]
        assert resumed.events == after(whole.events, done), (file, done)
        assert again.global_step == trainer.global_step
        assert again.current_epoch == trainer.current_epoch or not resumed.events
        assert all(map(torch.equal, state_of(resumed), state_of(whole)))


def after(events, items):
    """What follows item number `items` and its validation, which a regular checkpoint waits for."""
    start = next((i for i, event in enumerate(events) if event[0] == "item" and event[1] >= items), len(events))
    return events[start:]


@pytest.mark.parametrize("settings", [{"max_epochs": 2}, {"max_epochs": 2, "val_check_interval": 2}])
@pytest.mark.parametrize("place", ["forward 2", "validation 4", "forward 4"])
def test_an_exception_leaves_a_checkpoint_of_whole_items(tmp_path, settings, place):
    whole = Toy()
    run(tmp_path / "a", whole, **settings)
    broken = Toy(fail_at=place)
    with pytest.raises(RuntimeError, match=place):
        run(tmp_path / "b", broken, RunCheckpoint(tmp_path / "b", every_n_updates=None, every_minutes=None), **settings)
    resumed = Toy()
    run(tmp_path / "b", resumed, resume=str(tmp_path / "b" / "last.ckpt"), **settings)
    assert broken.events + resumed.events == whole.events
    assert all(map(torch.equal, state_of(resumed), state_of(whole)))


def test_an_exception_after_the_optimizer_began_keeps_the_checkpoint_before(tmp_path):
    with pytest.raises(RuntimeError):
        run(tmp_path, Toy(fail_at="after step 3"), RunCheckpoint(tmp_path, every_n_updates=2), max_epochs=1)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["run"]["items"] == 2


def test_a_finished_run_can_be_made_longer(tmp_path):
    whole, first, more = Toy(), Toy(), Toy()
    run(tmp_path / "a", whole, max_steps=7, **EVERY)
    run(tmp_path / "b", first, max_steps=3, **EVERY)
    run(tmp_path / "b", more, resume=str(tmp_path / "b" / "last.ckpt"), max_steps=7, **EVERY)
    assert first.events + more.events == whole.events
    assert all(map(torch.equal, state_of(more), state_of(whole)))


def test_items_of_several_updates_cross_the_interval(tmp_path):
    saved = []

    class Io(AtomicCheckpointIO):
        def save_checkpoint(self, checkpoint, path, storage_options=None):
            saved.append(checkpoint["global_step"])
            super().save_checkpoint(checkpoint, path)

    checkpoint = RunCheckpoint(tmp_path, monitor=None, every_n_updates=10)
    run(tmp_path, Toy(updates=4), checkpoint, plugins=[Io()], max_epochs=1)
    assert saved == [12, 16]


def test_time_makes_a_checkpoint_due(tmp_path, monkeypatch):
    from lit_rlhf.callbacks import checkpointing

    clock = iter(range(0, 100000, 60))
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: float(next(clock)))
    checkpoint = RunCheckpoint(tmp_path, every_n_updates=None, every_minutes=4)
    _, kept = run(tmp_path, Toy(), checkpoint, max_epochs=2, limit_val_batches=0)
    assert 2 <= len(kept) < 8


def test_best_of_the_watched_metric_is_kept_under_one_name(tmp_path):
    module = Toy()
    trainer, _ = run(tmp_path, module, max_epochs=3, **EVERY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-val_loss.ckpt", "last.ckpt"]
    best = torch.load(tmp_path / "best-val_loss.ckpt", weights_only=True)
    assert (best["state_dict"]["weight"] ** 2).sum() == trainer.checkpoint_callback.best_model_score
    assert trainer.checkpoint_callback.best_model_path == str(tmp_path / "best-val_loss.ckpt")


def test_the_best_value_survives_a_restart_and_a_move(tmp_path):
    run(tmp_path / "a", Toy(), max_steps=4, **EVERY)
    (tmp_path / "a").rename(tmp_path / "b")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trainer, _ = run(tmp_path / "b", Toy(), resume=str(tmp_path / "b" / "last.ckpt"), max_steps=12, **EVERY)
    whole, _ = run(tmp_path / "c", Toy(), max_steps=12, **EVERY)
    assert trainer.checkpoint_callback.best_model_score == whole.checkpoint_callback.best_model_score
    assert (tmp_path / "b" / "best-val_loss.ckpt").exists()


def test_last_is_found_by_name(tmp_path):
    first, second = Toy(), Toy()
    run(tmp_path, first, max_steps=4, **EVERY)
    run(tmp_path, second, resume="last", max_steps=6, **EVERY)
    assert second.events[0][:2] == ("item", 4)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_finish_the_update_and_save(tmp_path, number):
    class Press(Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            if batch == 2:
                os.kill(os.getpid(), number)

    module, resumed, whole = Toy(), Toy(), Toy()
    seed_everything(7, verbose=False)
    checkpoint = RunCheckpoint(tmp_path, every_n_updates=None)
    trainer = Trainer(callbacks=[Press(), checkpoint], max_epochs=1, logger=False, enable_progress_bar=False,
                      enable_model_summary=False, accelerator="cpu")
    with pytest.raises(SystemExit):
        trainer.fit(module, datamodule=ToyData(4))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert module.items_done == 3
    run(tmp_path, resumed, resume="last", max_epochs=1)
    run(tmp_path / "whole", whole, max_epochs=1)
    assert module.events + resumed.events == whole.events


def test_a_kill_during_a_write_leaves_the_old_file(tmp_path, monkeypatch):
    io, target = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, target)
    monkeypatch.setattr(os, "replace", _killed)
    with pytest.raises(KeyboardInterrupt):
        io.save_checkpoint({"step": 2}, target)
    assert io.load_checkpoint(target) == {"step": 1}


def _killed(*_):
    raise KeyboardInterrupt


def test_a_checkpoint_that_could_not_be_read_again_is_refused(tmp_path):
    with pytest.raises(InputError, match="safe loading refuses"):
        AtomicCheckpointIO().save_checkpoint({"callbacks": {"mine": Toy()}}, tmp_path / "last.ckpt")
    assert not list(tmp_path.iterdir())


def test_damaged_and_missing_files_are_named(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"half a file")
    for name in ("last.ckpt", "none.ckpt"):
        with pytest.raises(InputError, match=name):
            AtomicCheckpointIO().load_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val/loss", "min"), ("val/perplexity", "min"), ("val/preference_accuracy", "max"), ("val/rewards/margin", "max")],
)
def test_the_better_direction_follows_from_the_name(monitor, mode):
    assert RunCheckpoint(monitor=monitor).mode == mode
    assert RunCheckpoint(monitor=monitor, mode="min").mode == "min"


def test_intervals_are_positive():
    with pytest.raises(InputError, match="every_n_updates"):
        RunCheckpoint(every_n_updates=0)


def test_a_training_metric_can_be_watched_without_validation(tmp_path):
    class Told(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            trainer.callback_metrics["train/loss"] = torch.tensor(1.0 / module.items_done)

    checkpoint = RunCheckpoint(tmp_path, monitor="train/loss", every_n_updates=None)
    seed_everything(7, verbose=False)
    trainer = Trainer(callbacks=[Told(), checkpoint], max_steps=3, logger=False, enable_progress_bar=False,
                      enable_model_summary=False, accelerator="cpu", limit_val_batches=0)
    trainer.fit(Toy(), datamodule=ToyData(8, validation=0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-train_loss.ckpt", "last.ckpt"]
