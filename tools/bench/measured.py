"""What a measuring process hands back, and when two of them did the same work."""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Run:
    """One fresh process: loss and gradient norm of every optimizer step, and the time of those after the warm-up."""

    losses: list[float]
    grad_norms: list[float]
    seconds: list[float]
    """Wall time of each measured step, everything between the ends of two steps included."""
    base_mib: float
    """Peak resident memory before the model was built."""
    peak_mib: float

    @property
    def step_seconds(self) -> float:
        """Mean over the measured steps."""
        return statistics.fmean(self.seconds)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Run:
        return cls(**json.loads(path.read_text()))


class Clock:
    """Marks the ends of optimizer steps."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def mark(self) -> None:
        self.marks.append(time.perf_counter())

    def run(self, losses: list[float], grad_norms: list[float], warmup: int, base_mib: float) -> Run:
        """What was measured, the first `warmup` steps left out of the times.

        Raises:
            ValueError: `warmup` is below 1: when the first step began is not known.
        """
        if warmup < 1:
            raise ValueError(f"warmup is {warmup}; a step lasts from the end of the one before, so it is at least 1")
        seconds = [after - before for before, after in itertools.pairwise(self.marks)]
        return Run(losses, grad_norms, seconds[warmup - 1 :], base_mib, peak_mib())


def relative_difference(ours: list[float], theirs: list[float]) -> float:
    """max_i |a_i - b_i| / max(|a_i|, |b_i|); infinite where the lengths differ or a number is not finite."""
    if len(ours) != len(theirs):
        return float("inf")
    differences = [abs(a - b) / max(abs(a), abs(b), 1e-30) for a, b in zip(ours, theirs, strict=True)]
    return max((d if d == d else float("inf") for d in differences), default=float("inf"))


def disagreement(runs: list[Run]) -> tuple[float, float]:
    """The largest relative difference of a step's loss and of its gradient norm between the first run and any other."""
    first, others = runs[0], runs[1:]
    return (
        max(relative_difference(first.losses, other.losses) for other in others),
        max(relative_difference(first.grad_norms, other.grad_norms) for other in others),
    )


def median_and_spread(values: list[float]) -> tuple[float, float, float]:
    """Median, least, largest."""
    return statistics.median(values), min(values), max(values)


def peak_mib() -> float:
    """Peak resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
