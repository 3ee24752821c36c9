"""Pictures of an evaluation: every measure as bars with intervals, and the frontier of reward and KL."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lit_rlhf.commands.evaluation.labels import label
from lit_rlhf.commands.evaluation.table import Found, ranked
from lit_rlhf.functional.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, DOTS = 9.0, 100
"""Inches, and dots per inch: 900 px."""
PANELS = {
    "reward": "reward", "win_rate": "win rate against the baseline", "kl": "KL to the baseline, nats per completion",
    "tokens": "length, tokens", "cut": "share cut", "distinct_2": "distinct-2 within a prompt", "pass@1": "pass@1",
}
"""Measure -> title of its panel."""


def bars(found: Found, baseline: str) -> Figure:
    """One panel per measure, one bar per policy in the order of reward, whiskers for the intervals."""
    panels = {name: title for name, title in PANELS.items() if any(name in row for row in found.values())}
    order, rows = ranked(found), math.ceil(len(panels) / 2)
    figure = _figure(rows * (0.9 + 0.34 * len(order)))
    axes = figure.subplots(rows, 2, squeeze=False, sharey=True)
    for place, (name, title) in zip(axes.flat, panels.items(), strict=False):
        _panel(place, {policy: found[policy].get(name) for policy in order}, baseline)
        place.set_title(title, fontsize=11)
        if name == "win_rate":
            place.axvline(0.5, color="0.4", linewidth=1, linestyle=":")
    for place in axes.flat[len(panels) :]:
        place.set_visible(False)
    return figure


def frontier(found: Found, baseline: str, reward: str) -> Figure | None:
    """Reward over KL, each policy a labelled point with both intervals; None where fewer than two have a KL."""
    points = {policy: row for policy, row in found.items() if {"kl", "reward"} <= row.keys()}
    if len(points) < 2:
        return None
    figure = _figure(5.6)
    axes = figure.subplots()
    for policy, row in points.items():
        kl, height = row["kl"], row["reward"]
        axes.errorbar(
            kl.value, height.value, xerr=_whiskers(kl), yerr=_whiskers(height), fmt="o" if policy != baseline else "s",
            markersize=8, capsize=3, elinewidth=1, color=_colour(policy, baseline), label=policy,
        )
    axes.set_xlabel(f"KL(policy || {baseline}), nats per completion", fontsize=11)
    axes.set_ylabel(f"mean reward ({reward})", fontsize=11)
    axes.margins(0.12)
    axes.grid(alpha=0.3)
    label(axes, {policy: (row["kl"].value, row["reward"].value) for policy, row in points.items()})
    return figure


def _figure(height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panel(axes: Axes, estimates: Mapping[str, Estimate | None], baseline: str) -> None:
    for place, (policy, estimate) in enumerate(estimates.items()):
        if estimate is not None:
            axes.barh(
                place, estimate.value, xerr=_whiskers(estimate), color=_colour(policy, baseline), alpha=0.85,
                height=0.65, capsize=3, error_kw={"elinewidth": 1.2},
            )
    names = [textwrap.shorten(f"{policy} *" if policy == baseline else policy, 60) for policy in estimates]
    axes.set_yticks(range(len(estimates)), names, fontsize=10)
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)


def _whiskers(estimate: Estimate) -> Any:
    """[2, 1] distances to the ends; None where there is no interval."""
    if math.isnan(estimate.low):
        return None
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]


def _colour(policy: str, baseline: str) -> str:
    return "#8c8c8c" if policy == baseline else "#2a6fb0"
