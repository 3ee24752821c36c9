"""Where the time of an item goes."""

from __future__ import annotations

import time
from typing import Literal, get_args

Phase = Literal["data", "generate", "score", "other", "forward_backward", "optimizer", "logging", "checkpoint", "validation"]
PHASES: tuple[Phase, ...] = get_args(Phase)
SAMPLING: tuple[Phase, ...] = ("generate", "score", "other")
"""Phases of runs that sample; `other` is what an iteration does between scores and updates: reference, values, credit, pairs."""


class Phases:
    """A stop-watch that always runs for exactly one phase; `enter` starts the next and gives back the one before."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """All times to 0, running for the data."""
        self.seconds: dict[Phase, float] = dict.fromkeys(PHASES, 0.0)
        self._phase: Phase = "data"
        self._since = time.perf_counter()

    def enter(self, phase: Phase) -> Phase:
        """Time from now on is this phase's."""
        now = time.perf_counter()
        self.seconds[self._phase] += now - self._since
        before, self._phase, self._since = self._phase, phase, now
        return before

    def take(self) -> dict[Phase, float]:
        """Seconds by phase since the last `take`."""
        self.enter(self._phase)
        taken, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return taken
