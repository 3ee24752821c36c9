"""Rates and labels on a world of a few responses: gradient descent on the exact losses of the real heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.rda import RDA
from lit_rlhf.theory import rates as pace
from lit_rlhf.theory.boltzmann import kl, log_target
from lit_rlhf.theory.residual import (
    bradley_terry,
    disconnected_limit,
    edge_weights,
    fixed_label_margin,
    independent,
    margins,
    residual,
    spread,
)
from lit_rlhf.theory.worlds import World, slope
from lit_rlhf.types import Batch, PreferenceBatch

COLOURS = ("#2a6fb0", "#e08a2e", "#3f8f4f", "#a03c78", "#5c5c5c")
WORLD, N = World.drawn(0, 6), 6
TAUS = (0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
CLOSE, MOST = 1e-3, 4000
"""Nats to the target that count as arrived, and the most steps that are taken."""
EVEN = pace.uniform_pairs(N)


def rounded(value: Any) -> Any:
    """Numbers to five digits, everywhere in a tree."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


# ---- rates


def steps(head: LossHead, tau: float, eta: float, batch: Callable[[Tensor], Batch]) -> int | None:
    """Until KL(pi || pi^tau) < 1e-3 from the reference; None where that takes more than 4000 steps."""
    theta, goal = WORLD.log_base, log_target(WORLD.reward, tau, WORLD.log_base)
    for step in range(MOST):
        if float(kl(theta.log_softmax(-1), goal)) < CLOSE:
            return step
        theta = theta - eta * slope(head, theta, WORLD, batch(theta))
    return None


def of_temperature(tau: float) -> dict[str, Any]:
    """Steps of RDA on pairs and of BDA on policy at a fixed step and at 1/lambda_max, and their condition numbers."""
    goal = log_target(WORLD.reward, tau, WORLD.log_base).exp()
    given, own = WORLD.pairs(EVEN), lambda theta: WORLD.scored(theta.softmax(-1))
    off, on = pace.rda_hessian(EVEN, tau), pace.bda_hessian(goal, tau)
    fixed = pace.largest_step(pace.rda_hessian(EVEN, TAUS[-1]))
    head = PolicyGradient(tau, "none")
    return {
        "tau": tau,
        "off-line, fixed step": steps(RDA(tau), tau, fixed, lambda theta: given),
        "off-line, 1/lambda_max": steps(RDA(tau), tau, pace.largest_step(off), lambda theta: given),
        "on policy, fixed step": steps(head, tau, 1.0, own),
        "on policy, 1/lambda_max": steps(head, tau, pace.largest_step(on), own),
        "kappa off-line": pace.condition(pace.pra_hessian(EVEN, bradley_terry(WORLD.reward), tau)),
        "kappa on policy": pace.condition(on),
    }


def of_design(design: Callable[[Tensor], Tensor], tau: float = 0.5) -> list[float]:
    """range(d) of PRA by step, on pairs that the margins choose, with the step that fits their mean curvature."""
    theta, sizes = WORLD.log_base, []
    for _ in range(14):
        sizes.append(float(spread(residual(theta, WORLD.reward, tau, WORLD.log_base))))
        margin = margins(theta, tau, WORLD.log_base)
        q, rho = torch.sigmoid(margin), design(margin)
        eta = 1 / (tau**2 * N * float((edge_weights(rho) * q * (1 - q)).sum() / (N * (N - 1))))
        theta = theta - eta * slope(PRA(tau), theta, WORLD, WORLD.pairs(rho))
    return sizes


def of_labels(scale: float) -> dict[str, float]:
    """lambda_2 of PRA in parts of RDA's, on uniform pairs: a mean of p(1-p), whose range is beside it."""
    p = bradley_terry(scale * WORLD.reward)
    off = ~torch.eye(N, dtype=torch.bool)
    lowest = float(pace.spectrum(pace.pra_hessian(EVEN, p, 1.0))[0] / pace.spectrum(pace.rda_hessian(EVEN, 1.0))[0])
    variance = (p * (1 - p))[off]
    return {"scale": scale, "pace": lowest, "least": float(variance.min()), "largest": float(variance.max())}


def rates() -> dict[str, Any]:
    """Numbers of all panels."""
    found = {
        "temperature": [of_temperature(tau) for tau in TAUS],
        "labels": [of_labels(scale) for scale in (0.1, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)],
        "designs": {
            "uniform": of_design(lambda margin: EVEN),
            "1/(p(1-p))": of_design(lambda margin: pace.inverse_variance(WORLD.reward)),
            "1/sigma'(h)": of_design(pace.inverse_slope),
        },
    }
    print("| " + " | ".join(found["temperature"][0]) + " |")
    for row in found["temperature"]:
        print("| " + " | ".join("more" if value is None else f"{value:.4g}" for value in row.values()) + " |")
    return found


def draw_rates(figure: Any, numbers: dict[str, Any]) -> None:
    """Steps and condition numbers by tau, pace by label noise, residuals by design."""
    first, second, third, fourth = figure.subplots(1, 4)
    rows = numbers["temperature"]
    for name, colour, line in zip(
        [key for key in rows[0] if key not in ("tau", "kappa off-line", "kappa on policy")],
        (COLOURS[0], COLOURS[0], COLOURS[1], COLOURS[1]), "-:-:", strict=True
    ):
        seen = [(row["tau"], row[name]) for row in rows if row[name] is not None]
        first.loglog(*zip(*seen, strict=True), line, marker="o", ms=3, color=colour, label=name)
    first.set(xlabel="tau", title=f"steps to {CLOSE:g} nats")
    for name, colour in (("kappa off-line", COLOURS[0]), ("kappa on policy", COLOURS[1])):
        taus, numbers_of = [row["tau"] for row in rows], [row[name] for row in rows]
        second.loglog(taus, numbers_of, marker="o", ms=3, color=colour, label=name)
    second.set(xlabel="tau", title="condition number")
    for axes in (first, second):
        axes.set_xticks([0.2, 0.5, 1.0, 2.0], ["0.2", "0.5", "1", "2"])
        axes.set_xticks([], minor=True)
    scales = [row["scale"] for row in numbers["labels"]]
    third.fill_between(
        scales, [row["least"] for row in numbers["labels"]], [row["largest"] for row in numbers["labels"]], alpha=0.2,
        color=COLOURS[2], label="range of p(1-p)",
    )
    third.semilogy(scales, [row["pace"] for row in numbers["labels"]], color=COLOURS[2], label="lambda_2: PRA / RDA")
    third.set(xlabel="scale of rewards", title="soft labels")
    for (name, sizes), colour in zip(numbers["designs"].items(), COLOURS, strict=False):
        fourth.semilogy([max(size, 1e-15) for size in sizes], marker="o", ms=3, color=colour, label=name)
    fourth.set(xlabel="step", title="range(d), by design")
    for axes in (first, second, third, fourth):
        axes.legend(fontsize=7)


# ---- labels


def drawn(generator: torch.Generator, repeats: int) -> PreferenceBatch:
    """Every pair so many times, with a label that is drawn each time."""
    soft = WORLD.pairs(independent(WORLD.uniform))
    keep = soft.chosen != soft.rejected
    first, second, p = (each[keep].repeat(repeats) for each in (soft.chosen, soft.rejected, soft.probability))
    won = torch.rand(len(p), generator=generator, dtype=torch.float64) < p
    return PreferenceBatch(
        soft.sequences, torch.where(won, first, second), torch.where(won, second, first), torch.ones_like(p)
    )


def course(batch: Callable[[], Batch], tau: float = 1.0, many: int = 400, eta: float = 2.0) -> list[float]:
    """KL(pi || pi^tau) by step, from the reference; pi has the mean logits of the last half of the steps so far."""
    theta, goal, seen, found = WORLD.log_base, log_target(WORLD.reward, tau, WORLD.log_base), [], []
    for _ in range(many):
        seen.append(theta)
        found.append(float(kl(torch.stack(seen[len(seen) // 2 :]).mean(0).log_softmax(-1), goal)))
        theta = theta - eta * slope(PRA(tau), theta, WORLD, batch())
    return found


def margins_of_one_label(tau: float, many: int = 2_000) -> list[float]:
    """h by step of DPO on one pair with one certain label, eta = 1, from h = 0."""
    pair = World(torch.zeros(2, dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64).log())
    certain = torch.tensor([[0.5, 1.0], [0.0, 0.5]], dtype=torch.float64)
    batch = pair.pairs(torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64), certain)
    theta, found = pair.log_base, []
    for _ in range(many):
        found.append(tau * float(theta[0] - theta[1]))
        theta = theta - slope(PRA(tau), theta, pair, batch)
    return found


def disconnected(tau: float = 0.5, many: int = 500) -> dict[str, list[float]]:
    """Target, law of equation 12, and where gradient descent is on pairs within two halves of the responses."""
    parts = torch.tensor([0, 0, 0, 1, 1, 1])
    batch, theta = WORLD.pairs(EVEN * (parts[:, None] == parts)), WORLD.log_base
    for _ in range(many):
        theta = theta - 8.0 * slope(PRA(tau), theta, WORLD, batch)
    laws = {
        "pi^tau": log_target(WORLD.reward, tau, WORLD.log_base),
        "reached": theta.log_softmax(-1),
        "predicted": disconnected_limit(WORLD.log_base, parts, WORLD.reward, tau, WORLD.log_base),
    }
    return {name: law.exp().tolist() for name, law in laws.items()}


def labels() -> dict[str, Any]:
    """Numbers of all panels."""
    generator = torch.Generator().manual_seed(60)
    soft = WORLD.pairs(independent(WORLD.uniform))
    fixed = [drawn(generator, 1) for _ in range(4)]
    stream = {"soft labels": course(lambda: soft), "fresh labels": course(lambda: drawn(generator, 20))}
    once = [course(lambda batch=batch: batch) for batch in fixed]
    grown = {f"{tau:g}": margins_of_one_label(tau)[:: 10] for tau in (0.2, 1.0)}
    for name, values in (stream | {f"one fixed label, draw {k}": one for k, one in enumerate(once)}).items():
        print(f"| {name} | {values[-1]:.4f} |")
    return {"streams": stream, "fixed": once, "margins": grown, "disconnected": disconnected()}


def draw_labels(figure: Any, numbers: dict[str, Any]) -> None:
    """Courses by kind of label, margins of one label, and the law on pairs that do not connect."""
    first, second, third = figure.subplots(1, 3)
    for (name, values), colour in zip(numbers["streams"].items(), COLOURS, strict=False):
        first.loglog(range(1, len(values) + 1), [max(one, 1e-6) for one in values], color=colour, label=name)
    for k, values in enumerate(numbers["fixed"]):
        at, label = range(1, len(values) + 1), None if k else "one fixed label a pair"
        first.loglog(at, values, color=COLOURS[3], lw=0.8, label=label)
    first.set(xlabel="step", title="DPO: KL(pi || pi^tau), nats")
    for (tau, values), colour in zip(numbers["margins"].items(), COLOURS, strict=False):
        at = [1 + 10 * k for k in range(len(values))]
        second.semilogx(at, values, color=colour, label=f"tau = {tau}")
        second.semilogx(at, [fixed_label_margin(t - 1, float(tau)) for t in at], ":", color="black", lw=1)
    second.set(xlabel="step", title="margin of one certain label")
    for k, ((name, law), colour) in enumerate(zip(numbers["disconnected"].items(), COLOURS, strict=False)):
        third.bar([place + 0.27 * (k - 1) for place in range(N)], law, 0.25, color=colour, label=name)
    third.set(xlabel="response; pairs within 0-2 and 3-5 only", title="pairs that do not connect")
    for axes in (first, second, third):
        axes.legend(fontsize=7)
