"""Statistics of a whole optimizer step: rows gathered over micro-batches and ranks, and their running means."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.ranks import gather_rows
from lit_rlhf.types import Observation


class StepStatistics:
    """Keeps one running mean per statistic that the head declares (BCO's reference point, say)."""

    def __init__(self, count: int) -> None:
        self._running: list[Tensor | None] = [None] * count

    def gather(self, own: Sequence[tuple[Observation, ...]], remember: bool) -> list[tuple[Observation, ...]]:
        """For every micro-batch, the rows of the whole step with the place of its own among them.

        Args:
            own: for every micro-batch of this rank, one observation per statistic.
            remember: move the running means (training) or leave them (validation).
        """
        columns = [self._gather(column, slot, remember) for slot, column in enumerate(zip(*own, strict=True))]
        return list(zip(*columns, strict=True))

    def _gather(self, rows: Sequence[Observation], slot: int, remember: bool) -> list[Observation]:
        values, start = gather_rows(torch.cat([row.values for row in rows]))
        weight, _ = gather_rows(torch.cat([row.weight for row in rows]))
        whole = dataclasses.replace(rows[0], values=values, weight=weight, running=self._running[slot])
        if whole.decay and remember:
            past = whole.mean() if whole.running is None else whole.running.to(values)
            self._running[slot] = whole.decay * past + (1 - whole.decay) * whole.mean()
            whole = dataclasses.replace(whole, running=self._running[slot])
        lengths = torch.tensor([len(row.values) for row in rows])
        starts = (start + lengths.cumsum(0) - lengths).tolist()
        return [dataclasses.replace(whole, start=place) for place in starts]

    def state_dict(self) -> dict[str, Any]:
        """The running means as tensors on the CPU."""
        return {"running": [None if mean is None else mean.cpu() for mean in self._running]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._running = list(state["running"])
