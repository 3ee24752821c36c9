"""Which prompt groups make which optimizer step, in which micro-batches, on which rank: pure functions of numbers.

Nothing here has a state. The groups of a step depend on the seed, the epoch and the step's index alone; their share over
ranks on their lengths and the number of ranks besides; the micro-batches on the token budget besides. So a restarted
run needs one integer, and neither memory nor the number of devices changes which prompts a step sees.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Bin = tuple[int, ...]
"""Groups that are computed together, by index."""


@dataclass(frozen=True)
class MicroBatch:
    """Groups computed together on one rank."""

    groups: Bin
    counted: bool = True
    """False for a repeat that only keeps this rank in step with the others: all its weights are 0."""


def shuffled(strata: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """[n] a seeded order of n groups in which every stretch has nearly its share of each stratum.

    The j-th of the m members of a stratum, themselves shuffled, is placed at (j + u) / m with one uniform u per
    stratum. A stretch of B groups then has B m / n of them to within about one, so no step lacks a label that the
    data have; with one stratum this is a plain shuffle.

    Args:
        strata: [n] the stratum of each group.
    """
    generator = np.random.default_rng([seed, epoch])
    place = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        place[members] = (np.arange(len(members)) + generator.random()) / len(members)
    return place.argsort(kind="stable")


def filled(n: int, size: int) -> tuple[slice, ...]:
    """Consecutive stretches of n things: `size` in each, and the rest in the last."""
    return tuple(slice(start, min(start + size, n)) for start in range(0, n, size))


def evenly(n: int, largest: int) -> tuple[slice, ...]:
    """Consecutive stretches of n things, none above `largest`, as few as possible and as equal as possible."""
    parts = -(-n // largest)
    return tuple(slice(part * n // parts, (part + 1) * n // parts) for part in range(parts))


def over_ranks(tokens: Sequence[int], ranks: int) -> tuple[Bin, ...]:
    """The groups 0..len(tokens)-1 shared among ranks: the longest first, each to the rank with the fewest tokens so far."""
    load = [(0, 0, rank) for rank in range(ranks)]
    share: list[list[int]] = [[] for _ in range(ranks)]
    for group in sorted(range(len(tokens)), key=lambda group: (-tokens[group], group)):
        used, count, rank = heapq.heappop(load)
        share[rank].append(group)
        heapq.heappush(load, (used + tokens[group], count + 1, rank))
    return tuple(tuple(sorted(groups)) for groups in share)


def packed(groups: Bin, tokens: Sequence[int], budget: int) -> tuple[Bin, ...]:
    """Few bins of at most `budget` tokens: the longest first, each into the first bin it fits in."""
    bins: list[list[int]] = []
    used: list[int] = []
    for group in sorted(groups, key=lambda group: (-tokens[group], group)):
        place = next((index for index, size in enumerate(used) if size + tokens[group] <= budget), len(bins))
        if place == len(bins):
            bins.append([])
            used.append(0)
        bins[place].append(group)
        used[place] += tokens[group]
    return tuple(tuple(sorted(members)) for members in bins)


def in_step(bins: tuple[Bin, ...], count: int, tokens: Sequence[int]) -> tuple[MicroBatch, ...]:
    """Exactly `count` micro-batches: bins are halved while one has two groups, then the shortest group is repeated uncounted.

    Args:
        bins: of one rank; none where the step has fewer groups than there are ranks.
        tokens: of every group of the step, on all ranks.
    """
    parts = list(bins)
    while len(parts) < count and (splittable := [index for index, part in enumerate(parts) if len(part) > 1]):
        widest = max(splittable, key=lambda index: sum(tokens[group] for group in parts[index]))
        part = parts.pop(widest)
        parts[widest:widest] = [half for half in _halves(part, tokens)]
    shortest = min(range(len(tokens)), key=lambda group: (tokens[group], group))
    repeat = MicroBatch((shortest,), counted=False)
    return (*(MicroBatch(part) for part in parts), *[repeat] * (count - len(parts)))


def micro_batches(tokens: Sequence[int], ranks: int, budget: int) -> tuple[tuple[MicroBatch, ...], ...]:
    """For every rank, the micro-batches of a step of groups 0..len(tokens)-1: the same number, at least one, on each.

    Args:
        tokens: unique tokens of each group (the prompt once and its completions), none above `budget`.
        ranks: processes that share the step.
        budget: most tokens in a micro-batch.
    """
    bins = [packed(groups, tokens, budget) for groups in over_ranks(tokens, ranks)]
    count = max(len(own) for own in bins)
    return tuple(in_step(own, count, tokens) for own in bins)


def drawn(n: int, taken: np.ndarray, seeds: Sequence[int]) -> int:
    """One of the groups 0..n-1 that are not `taken`, each as likely as any other; of all, where none is left.

    Args:
        taken: distinct groups.
        seeds: of the draw.
    """
    generator = np.random.default_rng(seeds)
    if len(taken) >= n:
        return int(generator.integers(n))
    place = int(generator.integers(n - len(taken)))
    return place + int(np.searchsorted(np.sort(taken) - np.arange(len(taken)), place, side="right"))


def _halves(part: Bin, tokens: Sequence[int]) -> tuple[Bin, Bin]:
    first, second = over_ranks([tokens[group] for group in part], 2)
    return tuple(part[index] for index in first), tuple(part[index] for index in second)
