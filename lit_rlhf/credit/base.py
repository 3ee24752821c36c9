"""What credit assignment is: steps from rollout to rollout, in order, over the whole iteration."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lit_rlhf.losses.base import Metric
from lit_rlhf.types import Rollout


@dataclass(frozen=True)
class Credited:
    """A rollout after a step, and what is worth logging of it."""

    rollout: Rollout
    metrics: tuple[Metric, ...] = ()
    """Sums of this rank; `credited` puts `rollout/` before the names."""


class CreditStep(ABC):
    """One step. It sees all sequences of this rank's iteration at once; what needs other ranks asks `lit_rlhf.ranks`."""

    needs: frozenset[str] = frozenset()
    """Fields of the rollout that it reads and a part of the composition must give: "reference", "values", "group"."""
    gives: frozenset[str] = frozenset()
    """Fields that it fills: "advantages", "returns", "token_reward"."""

    @abstractmethod
    def __call__(self, rollout: Rollout) -> Credited:
        """The rollout with what this step adds; nothing of the argument changes."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold; nothing for most."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""


def credited(rollout: Rollout, steps: Sequence[CreditStep]) -> Credited:
    """The rollout after all steps, with the metrics of each."""
    metrics: list[Metric] = []
    for step in steps:
        done = step(rollout)
        rollout = done.rollout
        metrics += (dataclasses.replace(metric, name=f"rollout/{metric.name}") for metric in done.metrics)
    return Credited(rollout, tuple(metrics))
