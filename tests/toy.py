"""A run of milliseconds with all that a resumed run must get back: random numbers, momenta, a schedule, a position."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from lit_rlhf.algorithms.recording import Recorder
from lit_rlhf.algorithms.statistics import StepStatistics


class Toy(LightningModule):
    """Linear regression with input noise from every generator; `updates` optimizer steps an item.

    `events` tells what happened: ("item", number, loss) and ("validation", items done).
    """

    def __init__(self, updates: int = 1, fail_at: str | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.updates, self.fail_at = updates, fail_at
        self.weight = nn.Parameter(torch.zeros(3))
        self.recorder, self.val_recorder, self.statistics = Recorder(), Recorder(), StepStatistics(0)
        self.items_done = 0
        self.metrics = nn.ModuleList()
        self.events: list[tuple[Any, ...]] = []

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step)]

    def training_step(self, item: int, index: int) -> None:
        for _ in range(self.updates):
            noise = random.random() + float(np.random.rand()) + torch.rand(3)
            loss = ((self.weight + noise - item % 5) ** 2).sum()
            self.recorder.add("loss", loss)
            self._fail(f"forward {item}")
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.lr_schedulers().step()
            self._fail(f"after step {item}")
        self.events.append(("item", item, loss.item()))
        self.items_done += 1

    def validation_step(self, item: int, index: int) -> None:
        self._fail(f"validation {self.items_done}")
        torch.rand(1)
        self.val_recorder.add("loss", (self.weight**2).sum())

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.events.append(("validation", self.items_done))
            self.trainer.callback_metrics["val/loss"] = (self.weight.detach() ** 2).sum()

    def _fail(self, place: str) -> None:
        if place == self.fail_at:
            raise RuntimeError(place)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["items_done"] = self.items_done

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.items_done = checkpoint["items_done"]


class Counted:
    """`length` items an epoch, numbered from the start of training, from where the module stands."""

    def __init__(self, data: ToyData) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.length

    def __iter__(self) -> Iterator[int]:
        start = self.data.trainer.lightning_module.items_done
        yield from range(start, start + len(self))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The module keeps the position."""


class ToyData(LightningDataModule):
    """Numbers as items."""

    def __init__(self, length: int = 6, validation: int = 2) -> None:
        super().__init__()
        self.length, self.validation = length, validation

    def train_dataloader(self) -> Counted:
        return Counted(self)

    def val_dataloader(self) -> list[list[int]]:
        return [list(range(self.validation))] if self.validation else []


def state_of(module: LightningModule) -> list[Tensor]:
    """Weights and optimizer state."""
    optimizer = module.optimizers(use_pl_optimizer=False)
    moments = [value for state in optimizer.state.values() for _, value in sorted(state.items())]
    return [value.detach().clone() for value in (*module.parameters(), *moments)]
