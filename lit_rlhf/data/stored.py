"""Outcomes as columns of Arrow, on disk and read again without a second tokenisation, and the groups behind them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_rlhf.data.columns import renamed
from lit_rlhf.data.designs import PairTable
from lit_rlhf.data.preparation import Outcome, Preparation, joined, same_prompt
from lit_rlhf.data.records import Group, Pair, RowError
from lit_rlhf.data.sources import Table, quiet
from lit_rlhf.types import PromptRecord

_BATCH = 256


def prepared(table: Table, columns: dict[str, str | None], preparation: Preparation, recipe: str) -> Any:
    """The outcomes of a table's rows as a `Dataset`, computed once per content and recipe.

    Args:
        table: stored rows.
        columns: the formats' names to the user's.
        preparation: rows to groups.
        recipe: says everything that the outcome depends on besides the rows.
    """
    import datasets

    def read(index: int, stored: dict[str, Any]) -> tuple[str, Any]:
        return table.place(index), readable(table, stored, columns)

    def one_by_one(stored: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        each = ({name: values[k] for name, values in stored.items()} for k in range(len(indices)))
        return as_columns(preparation([read(index, row) for index, row in zip(indices, each, strict=True)]))

    def together(stored: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        return as_columns(
            preparation([_together([read(index, table.data[index]) for index in own]) for own in stored["members"]])
        )

    source, work = table.data, one_by_one
    if preparation.reading.format == "scored":
        members = same_prompt(read(index, stored)[1] for index, stored in enumerate(table.data))
        if len(members) < len(table.data):
            source, work = datasets.Dataset.from_dict({"members": members}), together
    fingerprint = _digest(table.data._fingerprint, recipe, _own_code(), table.name)
    with quiet():
        return source.map(
            work,
            batched=True,
            batch_size=_BATCH,
            with_indices=True,
            remove_columns=source.column_names,
            features=_features(),
            new_fingerprint=fingerprint,
            cache_file_name=_cache_file(table.data, fingerprint),
            load_from_cache_file=True,
        )


def readable(table: Table, stored: dict[str, Any], columns: dict[str, str | None]) -> dict[str, Any] | RowError | None:
    """A row under the formats' names, the error that says why it cannot be read, or None for a blank line."""
    try:
        row = table.row(stored)
        return None if row is None else renamed(row, columns)
    except RowError as error:
        return error


def _together(rows: Sequence[tuple[str, Any]]) -> tuple[str, Any]:
    """The rows of one prompt as one, called after all of them: file:3,7."""
    (place, first), *others = rows
    if not others:
        return place, first
    return place + "".join("," + other.rpartition(":")[2] for other, _ in others), joined([row for _, row in rows])


def _cache_file(data: Any, fingerprint: str) -> str | None:
    """Beside the rows; None where those are in memory."""
    files = data.cache_files
    return str(Path(files[0]["filename"]).parent / f"lit_rlhf-{fingerprint}.arrow") if files else None


@functools.cache
def _own_code() -> str:
    """A hash of the code of this folder: what another version stored is not read."""
    return _digest(*(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))))


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()


# ---- columns

_NUMBERS = ("straddles", "empties", "ties", "clipped_pairs")


def _features() -> Any:
    from datasets import Features, List, Value

    text, whole, real = Value("string"), Value("int32"), Value("float64")
    return Features(
        {"row": text, "fate": text, "reason": text, "key": text, "cut": Value("bool")}
        | dict.fromkeys(_NUMBERS, whole)
        | {
            "prompt_ids": List(whole),
            "prompt_length": whole,
            "completions": List(List(whole)),
            "lengths": List(whole),
            "trained": whole,
        }
        | {"token_weights": List(List(Value("float32"))), "rewards": List(real), "labels": List(real), "weight": real}
        | {
            "chosen": List(whole),
            "rejected": List(whole),
            "probability": List(real),
            "gap": List(real),
            "pair_weight": List(real),
        }
        | {"record": text, "answered": Value("bool")}
    )


_COLUMNS: dict[str, Callable[[Outcome], Any]] = {
    name: (lambda o, name=name: getattr(o, name)) for name in ("row", "fate", "reason", "key", "cut", *_NUMBERS)
}
_OF_GROUP: dict[str, Callable[[Group], Any]] = {
    "prompt_ids": lambda g: g.prompt_ids,
    "prompt_length": lambda g: len(g.prompt_ids),
    "completions": lambda g: list(g.completions),
    "lengths": lambda g: [len(ids) for ids in g.completions],
    "trained": lambda g: (
        sum(len(ids) for ids in g.completions)
        if g.token_weights is None
        else sum(int((w > 0).sum()) for w in g.token_weights)
    ),
    "token_weights": lambda g: list(g.token_weights or ()),
    "rewards": lambda g: g.rewards or (),
    "labels": lambda g: g.labels or (),
    "weight": lambda g: g.weight,
    "chosen": lambda g: [pair.chosen for pair in g.pairs],
    "rejected": lambda g: [pair.rejected for pair in g.pairs],
    "probability": lambda g: [pair.probability for pair in g.pairs],
    "gap": lambda g: [pair.gap for pair in g.pairs if pair.gap is not None],
    "pair_weight": lambda g: [pair.weight for pair in g.pairs],
    "record": lambda g: None if g.record is None else _written(g.record),
    "answered": lambda g: g.record is not None and g.record.answer is not None,
}


def _written(record: PromptRecord) -> str:
    """What a reward may know of a prompt, as JSON; what JSON has no word for is text."""
    return json.dumps([record.prompt, record.answer, record.extra], ensure_ascii=False, default=str)


def _read(written: str | None, row: str) -> PromptRecord | None:
    if written is None:
        return None
    prompt, answer, extra = json.loads(written)
    return PromptRecord(prompt if isinstance(prompt, str) else tuple(prompt), answer, extra, row)


_NOTHING = Group(np.empty(0, dtype=np.int32), ())


def as_columns(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    """One value per outcome in every column; rows without a group have empty lists."""
    found = {name: [read(outcome) for outcome in outcomes] for name, read in _COLUMNS.items()}
    return found | {name: [read(outcome.group or _NOTHING) for outcome in outcomes] for name, read in _OF_GROUP.items()}


def outcome_table(outcomes: Sequence[Outcome]) -> Any:
    """Outcomes as a `Dataset` in memory."""
    import datasets

    return datasets.Dataset.from_dict(as_columns(outcomes), features=_features())


class StoredGroups(Sequence[Group]):
    """Groups that are made from their columns when they are asked for.

    Args:
        data: a `Dataset` of kept rows.
    """

    def __init__(self, data: Any) -> None:
        self.data = data.with_format("arrow")

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Group:
        if not 0 <= index < len(self):
            raise IndexError(index)
        row = self.data[int(index)]

        def numbers(name: str) -> list[Any]:
            return row[name][0].as_py()

        weights, gaps = _lists(row, "token_weights"), numbers("gap")
        edges = zip(*(numbers(name) for name in ("chosen", "rejected", "probability", "pair_weight")), strict=True)
        return Group(
            prompt_ids=row["prompt_ids"][0].values.to_numpy(),
            completions=_lists(row, "completions"),
            token_weights=weights or None,
            rewards=tuple(numbers("rewards")) or None,
            labels=tuple(numbers("labels")) or None,
            pairs=tuple(Pair(c, r, p, gaps[k] if gaps else None, w) for k, (c, r, p, w) in enumerate(edges)),
            row=numbers("row"),
            weight=numbers("weight"),
            record=_read(numbers("record"), numbers("row")),
        )

    @property
    def tokens(self) -> np.ndarray:
        """[n] unique tokens of each group."""
        return column(self.data, "prompt_length").to_numpy() + list_sums(column(self.data, "lengths"))

    @property
    def pair_table(self) -> PairTable:
        """All pairs, without making groups."""
        lists = {name: column(self.data, name) for name in ("probability", "gap", "pair_weight")}
        flat = {name: values.flatten().to_numpy(zero_copy_only=False) for name, values in lists.items()}
        sizes, gaps = (lists[name].value_lengths().to_numpy(zero_copy_only=False) for name in ("probability", "gap"))
        gap = np.full(len(flat["probability"]), np.nan)
        gap[np.repeat(gaps == sizes, sizes)] = flat["gap"]
        weight = flat["pair_weight"] * np.repeat(column(self.data, "weight").to_numpy(), sizes)
        return PairTable(flat["probability"], gap, weight, np.concatenate([[0], np.cumsum(sizes)]), self)


def column(data: Any, name: str) -> Any:
    """One whole column of a `Dataset`, as an Arrow array."""
    return data.with_format("arrow").select_columns([name])[:][name].combine_chunks()


def list_sums(lists: Any) -> np.ndarray:
    """[n] the sum of each list of an Arrow array of lists of integers."""
    totals = np.concatenate([[0], np.cumsum(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.int64)])
    ends = np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False))
    return totals[ends] - totals[ends - lists.value_lengths().to_numpy(zero_copy_only=False)]


def _lists(row: Any, name: str) -> tuple[np.ndarray, ...]:
    return tuple(part.values.to_numpy() for part in row[name][0])
