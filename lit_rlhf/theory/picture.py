"""A finding as a picture: target and law that is reached, and the distance on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lit_rlhf.theory.report import Answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DOTS = 10.0, 4.2, 100
"""Inches, and dots per inch."""


def picture(answer: Answer) -> Figure:
    """Bars of every response on the left, the error over the search on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    bars, curve = figure.subplots(1, 2, width_ratios=(1.3, 1))
    _bars(bars, answer)
    _curve(curve, answer)
    figure.suptitle(_title(answer), fontsize=12)
    return figure


def _title(answer: Answer) -> str:
    finding = answer.finding
    if finding.end.outcome in ("not finite", "unbounded"):
        return f"{answer.name}: no finite {'minimiser' if finding.end.outcome == 'unbounded' else 'loss'}"
    if finding.end.log_law is None:
        return f"{answer.name}: scores of a reward model"
    best = finding.best
    return f"{answer.name}: {'at' if best else 'not at'} {(best or finding.matches[0]).known.symbols}"


def _bars(axes: Axes, answer: Answer) -> None:
    finding, problem = answer.finding, answer.finding.setting.problem
    order = problem.reward.argsort(descending=True)
    series: dict[str, Any] = {"reference u": problem.log_base.exp()}
    if finding.end.log_law is None:
        series = {"reward r": problem.reward, "score": finding.end.scores}
    else:
        aims = [match.known for match in finding.matches[:1]]
        series |= {f"target {known.symbols}": known.law for known in aims} | {"found": finding.end.log_law.exp()}
    colours, width = ("#b0b0b0", "#e08a2e", "#2a6fb0"), 0.8 / len(series)
    colours = colours if len(series) == 3 else colours[1:]
    places = torch.arange(problem.n).double()
    for number, ((name, values), colour) in enumerate(zip(series.items(), colours, strict=False)):
        left = places + (number - (len(series) - 1) / 2) * width
        axes.bar(left.tolist(), values[order].tolist(), width, label=name, color=colour)
    names = [f"{problem.names[one]}\nr={float(problem.reward[one]):.2g}" for one in order.tolist()]
    axes.set_xticks(range(problem.n), names, fontsize=9)
    axes.set_xlabel("responses, best reward first")
    axes.set_ylabel("probability" if finding.end.log_law is not None else "nats")
    if finding.end.log_law is not None and float(max(values.max() for values in series.values())) > 0.95:
        axes.set_yscale("log")
        axes.set_ylim(max(1e-14, 0.3 * float(min(values[values > 0].min() for values in series.values()))), 2.0)
    axes.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    axes.grid(axis="y", alpha=0.3)


def _curve(axes: Axes, answer: Answer) -> None:
    finding = answer.finding
    if finding.distance:
        whole = bool((finding.matches[0].known.law > 0).all())
        axes.semilogy([max(value, 1e-16) for value in finding.distance], color="#2a6fb0")
        axes.set_ylabel("KL(pi || target), nats" if whole else "total variation to the target")
    elif finding.end.curve:
        axes.plot(finding.end.curve, color="#2a6fb0")
        axes.set_ylabel("expected loss")
    axes.set_xlabel("iterations" if finding.end.how != "off-line" else "steps of the search")
    axes.grid(alpha=0.3)
