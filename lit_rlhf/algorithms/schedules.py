"""Learning-rate schedules over the planned optimizer steps, stepped once per update."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from lightning.pytorch.cli import LRSchedulerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


class Schedule(ABC):
    """How the learning rate moves over the steps of a run."""

    @abstractmethod
    def build(self, optimizer: Optimizer, total_steps: int | None) -> LRScheduler:
        """The torch scheduler for a run of `total_steps` updates (None where the number is not known)."""


@dataclass(frozen=True)
class Warmup(Schedule):
    """lr(t) = lr * min(1, (t+1)/w) * decay((t-w)/(T-w)), with w = `warmup` * T updates for T planned updates.

    Args:
        warmup: share of the planned updates during which the rate rises linearly.
        final: the factor that the decay ends at.

    Raises:
        ValueError: `warmup` outside [0, 1), or a decay is asked for and the number of updates is not known.
    """

    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is {self.warmup}; it is a share of the planned updates, in [0, 1)")

    @abstractmethod
    def decay(self, progress: float) -> float:
        """The factor after the share `progress` of the updates that follow the warm-up."""

    def build(self, optimizer: Optimizer, total_steps: int | None) -> LRScheduler:
        if total_steps is None:
            raise ValueError(f"{type(self).__name__} needs to know the number of updates: set trainer.max_steps")
        warm = math.ceil(self.warmup * total_steps)

        def factor(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            return self.decay(min(1.0, (step - warm) / max(1, total_steps - warm)))

        return LambdaLR(optimizer, factor)


@dataclass(frozen=True)
class Constant(Warmup):
    """The learning rate stays where the warm-up brought it."""

    def decay(self, progress: float) -> float:
        return 1.0

    def build(self, optimizer: Optimizer, total_steps: int | None) -> LRScheduler:
        return super().build(optimizer, total_steps) if self.warmup else LambdaLR(optimizer, lambda step: 1.0)


@dataclass(frozen=True)
class Linear(Warmup):
    """1 - (1 - final) * progress."""

    def decay(self, progress: float) -> float:
        return 1.0 - (1.0 - self.final) * progress


@dataclass(frozen=True)
class Cosine(Warmup):
    """final + (1 - final) * (1 + cos(pi * progress)) / 2."""

    def decay(self, progress: float) -> float:
        return self.final + (1.0 - self.final) * (1.0 + math.cos(math.pi * progress)) / 2.0


class TorchSchedule(Schedule):
    """Any scheduler of torch or of your own that is stepped once per update.

    Args:
        scheduler: called with the optimizer.
    """

    def __init__(self, scheduler: LRSchedulerCallable) -> None:
        self.scheduler = scheduler

    def build(self, optimizer: Optimizer, total_steps: int | None) -> LRScheduler:
        return self.scheduler(optimizer)
