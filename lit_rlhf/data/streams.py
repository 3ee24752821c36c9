"""Rows that are read as they are needed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lit_rlhf.data.loading import GroupStream
from lit_rlhf.data.preparation import Outcome, Preparation
from lit_rlhf.data.records import Group
from lit_rlhf.data.sources import Table, quiet
from lit_rlhf.data.stored import readable
from lit_rlhf.errors import InputError


@dataclass(frozen=True)
class Flow:
    """One source of a stream."""

    tables: tuple[Table, ...]
    columns: dict[str, str | None]
    preparation: Preparation
    weight: float | None = None


class StreamedGroups(GroupStream):
    """The groups of streamed sources, shuffled within a buffer and mixed in proportion to their weights.

    Args:
        flows: the sources.
        seed: of the order.
        buffer: rows that are shuffled together; 1 keeps the order.
        tolerate: the share of wrong rows that is accepted, looked at from the thousandth row on, or 0 for none.
        drops: whether rows that are too long may be left out or cut.
    """

    _ENOUGH = 1000

    def __init__(self, flows: tuple[Flow, ...], seed: int, buffer: int, tolerate: float, drops: bool) -> None:
        self.flows, self.seed, self.buffer, self.tolerate, self.drops = flows, seed, buffer, tolerate, drops

    def read(self, number: int) -> Iterator[Group]:
        wrong = 0
        for count, outcome in enumerate(self.outcomes(number), start=1):
            wrong += outcome.fate == "wrong"
            self._refuse(outcome, wrong, count)
            if outcome.group is not None:
                yield outcome.group

    def outcomes(self, number: int) -> Iterator[Outcome]:
        """What becomes of the rows, in the order of pass `number`."""
        with quiet():
            rows = self._rows(number)
            for row in rows:
                flow = self.flows[row["flow"]]
                table = flow.tables[row["table"]]
                stored = {name: value for name, value in row.items() if name not in ("flow", "table", "index")}
                yield from flow.preparation([(table.place(row["index"]), readable(table, stored, flow.columns))])

    def _rows(self, number: int) -> Iterator[dict[str, Any]]:
        import datasets

        parts = [self._tagged(index, flow) for index, flow in enumerate(self.flows)]
        weights = [flow.weight for flow in self.flows]
        if any(weight is not None for weight in weights):
            given = [1.0 if weight is None else weight for weight in weights]
            shares = [weight / sum(given) for weight in given]
            whole = datasets.interleave_datasets(
                parts, shares, seed=self.seed + number, stopping_strategy="all_exhausted"
            )
        else:
            whole = datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]
        return iter(whole.shuffle(seed=self.seed + number, buffer_size=self.buffer) if self.buffer > 1 else whole)

    def _tagged(self, place: int, flow: Flow) -> Any:
        import datasets

        parts = []
        for index, table in enumerate(flow.tables):
            parts.append(
                table.data.map(
                    lambda row, at, index=index: row | {"flow": place, "table": index, "index": at}, with_indices=True
                )
            )
        return datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]

    def _refuse(self, outcome: Outcome, wrong: int, count: int) -> None:
        if outcome.fate == "wrong" and (not self.tolerate or count >= self._ENOUGH and wrong > self.tolerate * count):
            raise InputError(
                f"data: {outcome.row}: {outcome.reason} ({wrong} wrong rows of {count} read, "
                f"and data.tolerate is {self.tolerate:g})"
            )
        if outcome.fate == "too_long" and not self.drops:
            raise InputError(
                f"data: {outcome.row}: {outcome.reason}. Raise data.max_length, or set data.overflow to drop "
                "or a truncation"
            )

    def head(self, rows: int) -> list[Outcome]:
        """What becomes of the first rows of the first pass."""
        return list(itertools.islice(self.outcomes(0), rows))
