"""A progress bar with the few numbers that matter."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class ProgressBar(TQDMProgressBar):
    """Items done, and what `MetricLogger` picks to be shown. Silent where standard error is no terminal."""

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=True)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if not sys.stderr.isatty():
            self.disable()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """`train/loss` is shown as `loss`, `val/loss` as `val loss`."""
        shown = {_short(name): value for name, value in trainer.progress_bar_metrics.items()}
        return {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in shown.items()}


def _short(name: str) -> str:
    stage, _, rest = name.partition("/")
    rest = rest.replace("_", " ")
    return f"val {rest}" if stage == "val" else rest or stage
