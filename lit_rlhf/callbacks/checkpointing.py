"""Checkpoints of whole items: when they are due, and what makes a resumed run the same run."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from lit_rlhf.callbacks.checkpoint_io import AtomicCheckpointIO
from lit_rlhf.callbacks.interrupt import Interrupt
from lit_rlhf.callbacks.place import Place, validates_after
from lit_rlhf.callbacks.random_state import RandomState
from lit_rlhf.errors import InputError

_KEY = "run"


@dataclass(frozen=True)
class Boundary:
    """What a mid-item exception is rolled back to."""

    place: Place
    random: RandomState
    recorder: Any
    statistics: Mapping[str, Any]


class RunCheckpoint(ModelCheckpoint):
    """Keeps `last.ckpt`, and `best-<metric>.ckpt` where a metric is watched.

    `last` is saved when `every_n_updates` optimizer steps are crossed (an item may hold several) or `every_minutes`
    have passed, at the end, and when the run is stopped by Ctrl-C, SIGTERM or an exception. It always holds a whole
    number of items: with validation due after the item it waits for it, and an exception in the middle of an item
    saves the state before that item, or nothing where its optimizer step had begun. Rank 0 decides.

    Args:
        dirpath: folder of the checkpoints.
        monitor: name of the metric (`val/loss`); None keeps `last` alone.
        mode: whether the best value is the smallest or the largest; None takes the largest of accuracies, areas under
            curves, rewards, margins and shares that rise, and else the smallest.
        every_minutes: None saves by updates alone.
        every_n_updates: None saves by time alone.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        monitor: str | None = "val/loss",
        mode: Literal["min", "max"] | None = None,
        every_minutes: float | None = 10.0,
        every_n_updates: int | None = 500,
    ) -> None:
        name = None if monitor is None else "best-" + re.sub(r"[^\w.-]+", "_", monitor)
        super().__init__(
            dirpath=dirpath, filename=name, monitor=monitor, mode=mode or _better(monitor), save_last=True,
            save_top_k=0 if monitor is None else 1, auto_insert_metric_name=False, enable_version_counter=False,
        )
        for option, value in (("every_minutes", every_minutes), ("every_n_updates", every_n_updates)):
            if value is not None and value <= 0:
                raise InputError(f"RunCheckpoint.{option}: {value}, expected a positive number or null")
        self.every_minutes, self.every_n_updates = every_minutes, every_n_updates
        self._interrupt = Interrupt()
        self._boundary: Boundary | None = None
        self._inside_item = self._validation_due = self._last_due = self._saving = self._stopping = False
        self._saved_total = self._best_seen_at = -1
        self._resume: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        return type(self).__name__

    # ---- start

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._boundary, self._seen_step = None, trainer.global_step
        self._inside_item = self._validation_due = self._last_due = self._saving = self._stopping = False
        if self._resume is not None:
            self._restore_rank(self._resume, trainer.global_rank, pl_module)
            self._resume = None
        self._interrupt.install()

    # ---- when

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._boundary is not None:  # a validation since the last item may have drawn random numbers
            self._boundary = _boundary(self._boundary.place, pl_module)
        self._inside_item = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._inside_item = False
        self._boundary = _boundary(Place.of(trainer), pl_module)
        self._validation_due = validates_after(trainer)
        due, interrupted = self._agreed(trainer)
        self._last_due |= due
        if not (self._boundary.place.epoch_over or self._validation_due):
            self._save_due(trainer)
        if interrupted:
            self._stopping = True
            raise KeyboardInterrupt

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if self._interrupt.asked and trainer.state.fn == TrainerFn.FITTING and trainer.world_size == 1:
            raise KeyboardInterrupt

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or trainer.fast_dev_run:
            return
        self._validation_due = False
        if self._boundary is not None and not self._boundary.place.epoch_over:
            self._save_best(trainer)
            self._save_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._boundary is not None and self._boundary.place.epoch_over:
            self._save_best(trainer)
            self._save_due(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._interrupt.remove()
        self._last_due = True
        self._save_best(trainer)
        self._save_due(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._interrupt.remove()
        together = trainer.world_size == 1 or isinstance(exception, SIGTERMException) or self._stopping
        if trainer.state.fn != TrainerFn.FITTING or self._boundary is None or self._saving or not together:
            return
        if self._inside_item and not self._roll_back(trainer, pl_module):
            return
        self._last_due = True
        self._save_due(trainer)

    def _agreed(self, trainer: Trainer) -> tuple[bool, bool]:
        """Whether a checkpoint is due and whether Ctrl-C was pressed, as rank 0 sees it."""
        step, now, every = trainer.global_step, time.monotonic(), self.every_n_updates
        crossed = every is not None and step // every > self._seen_step // every
        late = self.every_minutes is not None and now - self._last_time_checked >= 60 * self.every_minutes
        self._seen_step = step
        own = crossed or late, self._interrupt.asked
        if trainer.world_size == 1:
            return own
        flags = torch.tensor(own, dtype=torch.uint8, device=trainer.strategy.root_device)
        dist.broadcast(flags, src=0)
        due, interrupted = flags.tolist()
        return bool(due), bool(interrupted)

    # ---- what

    def _save_best(self, trainer: Trainer) -> None:
        if self._boundary is None or trainer.fast_dev_run:
            return
        current = trainer.callback_metrics.get(self.monitor) if self.monitor else None
        if current is not None and self._best_seen_at != self._boundary.place.total:
            self._best_seen_at = self._boundary.place.total
            self._save_monitor_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_due(self, trainer: Trainer) -> None:
        if not self._last_due or trainer.fast_dev_run or self._boundary is None:
            return
        self._last_due = False
        if self._saved_total != self._boundary.place.total:
            self._saving = True
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
            self._saving = False
            self._saved_total, self._last_time_checked = self._boundary.place.total, time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds every rank's random state and open logging window, and puts the counters between two items."""
        if self._boundary is None:
            return
        as_it_was = self._inside_item or self._validation_due
        random = self._boundary.random if as_it_was else RandomState.now()
        recorder = getattr(pl_module, "recorder", None)
        own = {"random": random.as_lists(), "recorder": {} if recorder is None else recorder.state_dict()}
        ranks = [own] * trainer.world_size
        if trainer.world_size > 1:
            dist.all_gather_object(ranks, own)
        checkpoint[_KEY] = {"ranks": ranks, "items": self._boundary.place.total}
        self._boundary.place.write_into(checkpoint["loops"]["fit_loop"], self._validation_due)

    def _roll_back(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Undoes the part of an item that was done; False where its optimizer step had begun."""
        steps = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
        if not steps.ready == steps.completed == self._boundary.place.steps:
            return False
        if hasattr(pl_module, "recorder"):
            pl_module.recorder = self._boundary.recorder
        if hasattr(pl_module, "statistics"):
            pl_module.statistics.load_state_dict(self._boundary.statistics)
        return True

    # ---- state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._resume = checkpoint.get(_KEY)

    def _restore_rank(self, state: dict[str, Any], rank: int, pl_module: LightningModule) -> None:
        self._saved_total = state["items"]
        if rank < len(state["ranks"]):
            own = state["ranks"][rank]
            RandomState.from_lists(own["random"]).restore()
            if hasattr(pl_module, "recorder"):
                pl_module.recorder.load_state_dict(own["recorder"])

    def state_dict(self) -> dict[str, Any]:
        """The best value; the file's name follows from the metric's, so a run directory can be moved."""
        return {"best_model_score": self.best_model_score, "monitor": self.monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score = state_dict["best_model_score"]
        if self.monitor is None or state_dict["monitor"] != self.monitor or score is None:
            return
        path = self.format_checkpoint_name({})
        self.best_model_score = self.kth_value = self.current_score = score
        self.best_model_path = self.kth_best_model_path = path
        self.best_k_models: dict[str, Tensor] = {path: score}


def _better(monitor: str | None) -> Literal["min", "max"]:
    largest = ("accuracy", "auroc", "reward", "margin", "rising")
    return "max" if monitor and any(word in monitor for word in largest) else "min"


def _boundary(place: Place, pl_module: LightningModule) -> Boundary:
    recorder, statistics = getattr(pl_module, "recorder", None), getattr(pl_module, "statistics", None)
    return Boundary(
        place, RandomState.now(),
        None if recorder is None else recorder.copy(), {} if statistics is None else statistics.state_dict(),
    )
