"""Where a run stands: a whole number of items, in Lightning's own counters.

Lightning resumes from a state that depends on the hook that saved it: what was saved after the last item of an epoch
skips that epoch's validation, and what was saved at the end of a run counts an unfinished epoch as finished. A
checkpoint therefore always gets the counters of a run that stands between two items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Place:
    """After an item, before the next."""

    epoch: int
    """Epochs finished."""
    items: int
    """Items done in this epoch."""
    total: int
    """Items done since the start."""
    steps: int
    """Optimizer steps, `trainer.global_step`."""
    epoch_over: bool
    """The item was the last of its epoch."""

    @classmethod
    def of(cls, trainer: Trainer) -> Place:
        """The place at the end of an item (`on_train_batch_end`)."""
        loop = trainer.fit_loop
        batches = loop.epoch_loop.batch_progress
        return cls(
            epoch=loop.epoch_progress.current.processed,
            items=batches.current.ready,
            total=batches.total.ready,
            steps=trainer.global_step,
            epoch_over=loop.epoch_loop._num_ready_batches_reached(),
        )

    def write_into(self, fit_loop: dict[str, Any], validation_due: bool) -> None:
        """Sets the counters of a checkpoint's fit loop to this place.

        Args:
            fit_loop: `checkpoint["loops"]["fit_loop"]`.
            validation_due: the validation that follows this item has not been run to its end; resuming runs it.
        """
        next_epoch = self.epoch_over and not validation_due
        begun, finished = (self.epoch + 1, self.epoch + 1) if next_epoch else (self.epoch + 1, self.epoch)
        epochs = {"ready": begun, "started": begun, "processed": finished, "completed": finished}
        fit_loop["epoch_progress"] = {"total": dict(epochs), "current": dict(epochs)}
        fit_loop["epoch_loop.batch_progress"] = {
            "total": _all(self.total), "current": _all(0 if next_epoch else self.items),
            "is_last_batch": self.epoch_over and not next_epoch,
        }
        interrupted = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
        validation = interrupted if validation_due else _all(0)
        fit_loop["epoch_loop.val_loop.batch_progress"] = {
            "total": dict(validation), "current": dict(validation), "is_last_batch": False,
        }
        steps = fit_loop["epoch_loop.manual_optimization.optim_step_progress"]
        steps["total"]["ready"], steps["current"]["ready"] = steps["total"]["completed"], steps["current"]["completed"]


def validates_after(trainer: Trainer) -> bool:
    """Whether Lightning runs the validation data after the present item (asked in `on_train_batch_end`)."""
    loop = trainer.fit_loop
    return loop._data_fetcher is not None and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def _all(count: int) -> dict[str, int]:
    return {"ready": count, "started": count, "processed": count, "completed": count}
