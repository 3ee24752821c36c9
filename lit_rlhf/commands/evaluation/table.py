"""The terminal table, policies in order of reward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lit_rlhf.functional.statistics import Estimate

Found = Mapping[str, Mapping[str, Estimate]]
"""Measures of every policy, by name."""
COLUMNS = {
    "reward": "reward", "gain": "gain", "win_rate": "win rate", "kl": "KL", "kl_per_token": "KL/token",
    "tokens": "tokens", "cut": "cut", "distinct_2": "distinct-2", "unique": "unique",
}
"""Measure -> head."""
WITH_INTERVAL = ("reward", "gain", "win_rate", "pass@1")


def ranked(found: Found) -> list[str]:
    """Policies, the highest reward first; those without one last."""
    return sorted(found, key=lambda policy: -value_of(found[policy], "reward", -math.inf))


def value_of(measures: Mapping[str, Estimate], name: str, absent: float = math.nan) -> float:
    """The value of a measure, or `absent` where it is not known."""
    return measures[name].value if name in measures else absent


def table(found: Found, baseline: str) -> str:
    """One row per policy; the baseline has a star. Parts of the reward have a table of their own."""
    order = ranked(found)
    names = dict.fromkeys(name for row in found.values() for name in row)
    heads = COLUMNS | {name: name for name in names if name.startswith("pass@")}
    parts = {name: name for name in names if name.startswith("reward/")}
    tables = [_table(found, order, baseline, heads)] + ([_table(found, order, baseline, parts)] if parts else [])
    return "\n\n".join(tables)


def _table(found: Found, order: Sequence[str], baseline: str, heads: Mapping[str, str]) -> str:
    heads = {name: head for name, head in heads.items() if any(name in row for row in found.values())}
    rows = [["policy", *heads.values()]]
    for policy in order:
        cells = [_cell(found[policy].get(name), name in WITH_INTERVAL) for name in heads]
        rows.append([f"{policy} *" if policy == baseline else policy, *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{first:<{widths[0]}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for first, *cells in rows
    )


def _cell(estimate: Estimate | None, interval: bool) -> str:
    if estimate is None:
        return "-"
    value = number(estimate.value)
    known = interval and not math.isnan(estimate.low)
    return f"{value} [{number(estimate.low)}, {number(estimate.high)}]" if known else value


def number(value: float) -> str:
    """Three decimals up to 100, then fewer."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}" if abs(value) < 10_000 else f"{value:.4g}"
