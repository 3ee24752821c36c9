"""From a plan to the items that Lightning iterates: `Items` for stored groups, `StreamItems` for streams, `ItemLoader`."""

from __future__ import annotations

import itertools
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lit_rlhf.data import plan
from lit_rlhf.data.collation import Signal, collate, refuse_oversized, tokens_of
from lit_rlhf.data.records import Group
from lit_rlhf.types import Batch, Prompts

Item = tuple[Batch, ...] | tuple[Prompts]
"""The micro-batches of one optimizer step for one rank; or its prompts of one iteration, all together."""


class GroupStream(ABC):
    """Prompt groups whose number is not known. It has no epochs: passes follow each other without end."""

    @abstractmethod
    def read(self, number: int) -> Iterator[Group]:
        """Pass `number` (0, 1, ...) over the data: the same groups in the same order whenever it is read, on every rank."""


class Items(Dataset):
    """Item = f(seed, position, rank): position p is step p modulo `len` of epoch p // `len`.

    Where prompts are read, an item has them in one piece: how a step of their completions is cut follows from those.

    Args:
        groups: what the steps are made of.
        tokens: [n] unique tokens of each group.
        strata: [n] what every step should have its share of.
        batch_size: groups per step over all ranks; the last step of an epoch has the rest.
        micro_batch_tokens: most tokens of a micro-batch.
        seed: of the order; None keeps the groups in order and makes the steps equally large (evaluation).
        signal: what the batches carry.
        rank: this process.
        ranks: number of processes.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        tokens: np.ndarray,
        strata: np.ndarray,
        batch_size: int,
        micro_batch_tokens: int,
        seed: int | None,
        signal: Signal,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.groups, self.tokens, self.strata, self.seed, self.signal = groups, tokens, strata, seed, signal
        self.micro_batch_tokens, self.rank, self.ranks = micro_batch_tokens, rank, ranks
        self._steps = plan.evenly(len(groups), batch_size) if seed is None else plan.filled(len(groups), batch_size)
        self._order: tuple[int, np.ndarray] = (-1, np.arange(len(groups)))

    def __len__(self) -> int:
        return len(self._steps)

    def step(self, position: int) -> np.ndarray:
        """The groups of the whole step, over all ranks."""
        epoch, index = divmod(position, len(self))
        if self.seed is not None and self._order[0] != epoch:
            self._order = (epoch, plan.shuffled(self.strata, self.seed, epoch))
        return self._order[1][self._steps[index]]

    def micro_batches(self, position: int) -> tuple[plan.MicroBatch, ...]:
        """This rank's share of the step, by index into `groups`."""
        step = self.step(position)
        own = self._share(self.tokens[step].tolist())
        return tuple(plan.MicroBatch(tuple(step[list(part.groups)].tolist()), part.counted) for part in own)

    def _share(self, tokens: list[int]) -> tuple[plan.MicroBatch, ...]:
        """This rank's share of a step, by place in it."""
        return plan.micro_batches(tokens, self.ranks, budget_of(self.signal, self.micro_batch_tokens))[self.rank]

    def __getitem__(self, position: int) -> Item:
        step = self.step(position)
        return tuple(
            collate([self.groups[index] for index in step[list(part.groups)]], self.signal, part.counted, part.groups)
            for part in self._share(self.tokens[step].tolist())
        )


def budget_of(signal: Signal, micro_batch_tokens: int) -> int:
    """Most tokens that are put together: prompts are never cut apart."""
    return sys.maxsize if signal == "prompt" else micro_batch_tokens


class StreamItems(IterableDataset):
    """Items of `batch_size` groups in the order of the stream; every rank reads the stream and keeps its share.

    So the steps are those of one process whatever the number of ranks, at the price of reading every row on each.
    Position p starts p * batch_size groups into the stream: a restarted run reads over what was used.
    """

    def __init__(
        self, stream: GroupStream, batch_size: int, micro_batch_tokens: int, signal: Signal, rank: int = 0, ranks: int = 1
    ) -> None:
        self.stream, self.batch_size, self.micro_batch_tokens, self.signal = stream, batch_size, micro_batch_tokens, signal
        self.rank, self.ranks, self.start = rank, ranks, 0

    def step(self, position: int) -> list[Group]:
        """The groups of the whole step, over all ranks."""
        start = position * self.batch_size
        return list(itertools.islice(self._endless(), start, start + self.batch_size))

    def _endless(self) -> Iterator[Group]:
        for number in itertools.count():
            yield from self.stream.read(number)

    def __iter__(self) -> Iterator[Item]:
        groups = itertools.islice(self._endless(), self.start * self.batch_size, None)
        while step := list(itertools.islice(groups, self.batch_size)):
            tokens = np.array([tokens_of(group) for group in step])
            budget = budget_of(self.signal, self.micro_batch_tokens)
            refuse_oversized(step, tokens, budget)
            own = plan.micro_batches(tokens.tolist(), self.ranks, budget)[self.rank]
            yield tuple(
                collate([step[index] for index in part.groups], self.signal, part.counted, part.groups) for part in own
            )


class Clock(Protocol):
    """What knows how many train items were used."""

    position: int


class _Resumable:
    """Tells Lightning that a restart inside an epoch is no accident."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the data module keeps the position."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: the data module has restored the position."""


class ItemLoader(_Resumable):
    """Iterates stored items in this process or in workers, from where the clock stands.

    It is no DataLoader, so that Lightning neither rebuilds it around another sampler nor cuts it among ranks. An
    iteration gives `len(self)` items: of the clock's position on in training, all of them in evaluation.
    """

    def __init__(self, items: Items, workers: int, clock: Clock | None = None) -> None:
        self.items, self.workers, self.clock = items, workers, clock

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        if self.clock is None:
            yield from _in_order(self.items, range(len(self)), self.workers)
            return
        start = self.clock.position
        for position, item in enumerate(_in_order(self.items, range(start, start + len(self)), self.workers), start):
            self.clock.position = position + 1
            yield item


class StreamLoader(_Resumable):
    """Iterates a stream of items without end, from where the clock stands; one worker at most reads it."""

    def __init__(self, items: StreamItems, workers: int, clock: Clock) -> None:
        self.items, self.workers, self.clock = items, min(workers, 1), clock

    def __iter__(self) -> Iterator[Item]:
        self.items.start = self.clock.position
        for position, item in enumerate(_in_order(self.items, None, self.workers), self.items.start):
            self.clock.position = position + 1
            yield item


def _in_order(items: Dataset, positions: range | None, workers: int) -> DataLoader:
    """A loader that takes nothing from the global random state, so that the number of workers changes nothing."""
    own = torch.Generator().manual_seed(0)
    return DataLoader(items, batch_size=None, sampler=positions, num_workers=workers, generator=own, collate_fn=_as_it_is)


def _as_it_is(item: Item) -> Item:
    return item
