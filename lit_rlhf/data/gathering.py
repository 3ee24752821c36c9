"""All sources of a split as one table of outcomes; refusal of what is wrong or too long; the counts of the report."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_rlhf.data.columns import check_columns, renamed_columns
from lit_rlhf.data.coverage import PairGraph, coverage
from lit_rlhf.data.formats import Format, detect
from lit_rlhf.data.identification import identification, scores
from lit_rlhf.data.preparation import Preparation, Reading
from lit_rlhf.data.report import Lengths, SplitReport
from lit_rlhf.data.signals import check_signal
from lit_rlhf.data.sources import Source, Table, tables
from lit_rlhf.data.splits import held_out, mixed
from lit_rlhf.data.stored import StoredGroups, column, list_sums, prepared
from lit_rlhf.errors import InputError

_NAMED = 5
"""Rows that an error names."""
_TOGETHER = 2000
"""Groups that the pair graph and the findings of the report are made of, at most."""


@dataclass(frozen=True)
class Recipe:
    """How the rows of every source become groups.

    Args:
        preparation: for rows in a format; the reading's format is replaced by that of each source.
        format: of all sources; detected where it is None.
        columns: the formats' names to the user's; a source's own come first.
        identity: says everything that a group depends on besides the rows.
    """

    preparation: Preparation
    format: Format | None
    columns: dict[str, str | None]
    identity: str

    def of(self, source: Source, found: Sequence[Table]) -> tuple[Preparation, dict[str, str | None], str]:
        """The preparation of one source, its columns, and a line that describes it.

        Raises:
            InputError: the columns are no known format, or one that lacks what the composition reads.
        """
        columns = self.columns | (source.columns or {})
        check_columns(columns)
        read = list(dict.fromkeys(name for table in found for name in table.columns()))
        if not read:
            raise InputError(f"data: {source.path}: no row can be read")
        names = renamed_columns(read, columns)
        format = self.format or _detected(source, names, self.preparation.signal == "prompt")
        preparation = self.preparation
        check_signal(preparation.signal, format, names, preparation.rules.label_above, f"data: {source.path}")
        reading: Reading = dataclasses.replace(preparation.reading, format=format)
        described = f"{source.path}: {format} ({', '.join(names)})"
        return dataclasses.replace(preparation, reading=reading), columns, described


def _detected(source: Source, names: Sequence[str], prompts: bool) -> Format:
    try:
        return detect(names, prompts)
    except InputError as error:
        raise InputError(str(error).replace("data:", f"data: {source.path}:", 1)) from None


@dataclass(frozen=True)
class Gathered:
    """The outcomes of all rows, source by source."""

    data: Any
    """A `Dataset` of outcomes."""
    sizes: tuple[int, ...]
    """Rows of each source."""
    sources: tuple[str, ...]
    """A line about each."""

    def __getitem__(self, name: str) -> list[Any]:
        return column(self.data, name).to_pylist()


def gather(sources: Sequence[Source], recipe: Recipe, cache_dir: str | None) -> Gathered:
    """Reads, tokenises and stores the rows of all sources."""
    import datasets

    parts, sizes, lines = [], [], []
    for source in sources:
        found = tables(source, cache_dir)
        preparation, columns, described = recipe.of(source, found)
        identity = f"{recipe.identity}\n{preparation.reading}\n{sorted(columns.items(), key=str)}"
        own = [prepared(table, columns, preparation, identity) for table in found]
        parts += own
        sizes.append(sum(len(part) for part in own))
        lines.append(described)
    return Gathered(datasets.concatenate_datasets(parts), tuple(sizes), tuple(lines))


def refuse(gathered: Gathered, tolerate: float, drops: bool, prompts: bool = False) -> tuple[str, ...]:
    """The wrong rows, each with its place and what is wrong.

    Args:
        tolerate: the share of wrong rows that is accepted.
        drops: whether rows that are too long may be left out or cut.
        prompts: whether they are prompts alone, with room for a completion.

    Raises:
        InputError: more rows are wrong, or a row is too long.
    """
    rows = list(zip(gathered["row"], gathered["fate"], gathered["reason"], strict=True))
    read = sum(fate != "blank" for _, fate, _ in rows)
    wrong = [f"{row}: {reason}" for row, fate, reason in rows if fate == "wrong"]
    if len(wrong) > tolerate * read:
        raise InputError(
            _listed(
                f"data: {len(wrong)} of {read} rows are wrong ({len(wrong) / read:.2%}), "
                f"and data.tolerate is {tolerate:g}",
                wrong,
            )
        )
    long = [f"{row}: {reason}" for row, fate, reason in rows if fate == "too_long"]
    if long and not drops:
        remedy = "Raise data.max_length, or set data.overflow to drop, truncate_prompt_left or truncate_completion_right"
        if prompts:
            remedy = "Lower model.sampler.max_new_tokens, or set data.overflow to drop or truncate_prompt_left"
        raise InputError(_listed(f"data: {len(long)} of {read} rows are too long. {remedy}", long))
    return tuple(wrong)


def _listed(sentence: str, rows: Sequence[str]) -> str:
    more = [f"and {len(rows) - _NAMED} more"] if len(rows) > _NAMED else []
    return "\n  ".join([sentence + ":", *rows[:_NAMED], *more])


def split_report(data: Any, groups: StoredGroups, repeated: int = 0) -> SplitReport:
    """The counts of the rows of one split.

    Args:
        data: outcomes of all its rows.
        groups: the kept ones.
        repeated: how many a mixture reads again.
    """
    fates = column(data, "fate").to_pylist()
    kept = groups.data
    reasons = [
        "wrong"
        if fate == "wrong"
        else "blank line"
        if fate == "blank"
        else "too long"
        if fate == "too_long"
        else reason
        for fate, reason in zip(fates, column(data, "reason").to_pylist(), strict=True)
        if fate != "kept"
    ]
    lengths, prompts = column(kept, "lengths"), column(kept, "prompt_length").to_numpy()
    total = {name: _total(kept, name) for name in ("straddles", "empties", "ties", "cut")}
    graph = PairGraph.of(groups, _TOGETHER)
    return SplitReport(
        rows=len(fates),
        kept=len(groups),
        truncated=total["cut"],
        dropped=dict(Counter(reasons)),
        repeated=repeated,
        completions=int(lengths.value_lengths().to_numpy(zero_copy_only=False).sum()),
        pairs=_count(kept, "chosen"),
        labels=_labels(kept),
        straddles=total["straddles"],
        empties=total["empties"],
        ties=total["ties"],
        clipped_pairs=_total(data, "clipped_pairs"),
        prompt_lengths=Lengths.of(prompts),
        completion_lengths=Lengths.of(lengths.flatten().to_numpy(zero_copy_only=False)),
        answers=_total(kept, "answered"),
        trained=_total(kept, "trained") / max(int((prompts + list_sums(lengths)).sum()), 1),
        coverage=coverage(graph),
        identification=identification(graph),
        scores=scores(groups, _TOGETHER) if _count(kept, "rewards") else None,
    )


def _labels(kept: Any) -> tuple[float, float]:
    labels = column(kept, "labels").flatten().to_numpy(zero_copy_only=False)
    return float(labels.sum()), float((1 - labels).sum())


def _total(data: Any, name: str) -> int:
    return int(np.sum(column(data, name).to_numpy(zero_copy_only=False)))


def _count(data: Any, name: str) -> int:
    return int(column(data, name).value_lengths().to_numpy(zero_copy_only=False).sum())


def kept_rows(data: Any) -> np.ndarray:
    """The indices of the rows that are kept."""
    return np.flatnonzero(np.array(column(data, "fate").to_pylist()) == "kept")


def held_out_rows(data: Any, share: float, fold: int, seed: int) -> np.ndarray:
    """[n] whether a row is held out; a wrong row has no prompt, and is not."""
    keys = np.array(column(data, "key").to_pylist(), dtype=object)
    out = np.zeros(len(keys), dtype=bool)
    out[keys != ""] = held_out(keys[keys != ""].tolist(), share, fold, seed)
    return out


def training_rows(gathered: Gathered, mine: np.ndarray, weights: Sequence[float | None], seed: int) -> np.ndarray:
    """The rows of an epoch, as indices into `mine`, the rows that are not held out: the kept ones, mixed by weight."""
    kept = np.isin(mine, kept_rows(gathered.data))
    source = np.repeat(np.arange(len(gathered.sizes)), gathered.sizes)[mine[kept]]
    sizes = np.bincount(source, minlength=len(gathered.sizes))
    starts = np.cumsum(sizes) - sizes
    epoch = mixed(sizes.tolist(), weights, seed)
    return np.flatnonzero(kept)[np.concatenate([start + rows for start, rows in zip(starts, epoch, strict=True)])]
