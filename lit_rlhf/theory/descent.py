"""Where off-line training ends: the zero of the exact expected gradient, by the composition's own evidence and head."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lit_rlhf.theory.field import Field, free_directions
from lit_rlhf.theory.laboratory import policy_of

Outcome = Literal["minimiser", "corner", "unbounded", "not finite", "unsettled"]
"""A corner is a minimum where the gradient jumps."""
LBFGS_STEPS, ADAM_STEPS, NEWTON_STEPS = 100, 120, 60
FIRST_STEP = 0.2
"""Nats of a logit, of Adam; larger ones push responses that the data lack out of sight."""
FLAT = 1e-9
"""Of the largest singular value of the gradient's derivative: below it a direction costs nothing."""
LONGEST = 4.0
"""Nats by which a step may change a logit."""
SETTLED = 1e-7
"""Of the last step, in nats: below it the search has arrived."""
STRAIGHT = 1e-6
"""Of the loss: a gradient above it is one."""
ESCAPED = 150.0
"""Nats between two logits beyond which there is no minimiser."""


@dataclass(frozen=True)
class Descent:
    """The end of a search from one start."""

    outcome: Outcome
    weights: Tensor
    """[m] all that is trained."""
    loss: float
    slope: float
    """The largest entry of the gradient."""
    step: float
    """The largest entry of the last step, in nats."""
    flat: int = 0
    """Directions beside the constant in which the loss does not change there."""
    curve: tuple[float, ...] = ()
    """Losses on the way."""
    laws: tuple[Tensor, ...] = field(default=(), repr=False)
    """Policies on the way."""


def descend(field: Field, start: Tensor, deadline: float = math.inf, steps: int = ADAM_STEPS) -> Descent:
    """From one start [m].

    By L-BFGS; where that stalls, as it may with a head that holds a statistic constant, by Adam with a falling step; and
    by Newton's method, which tells an end from none.
    """
    way = _Way([], [])
    values = _lbfgs(field, start, deadline, way)
    loss, slope = field.at(values)
    if not float(slope.abs().max()) < STRAIGHT * (1 + abs(loss)):
        values = _adam(field, values, deadline, steps, way)
    return dataclasses.replace(_newton(field, values, deadline), curve=tuple(way.curve), laws=tuple(way.laws))


@dataclass(frozen=True)
class _Way:
    """What is passed."""

    curve: list[float]
    laws: list[Tensor]

    def add(self, field: Field, loss: float) -> None:
        self.curve.append(loss)
        if (law := field.law()) is not None:
            self.laws.append(law)


def _lbfgs(field: Field, start: Tensor, deadline: float, way: _Way) -> Tensor:
    """Ends early where the loss falls no more, and one step before it is no number."""
    leaf, last = start.clone().requires_grad_(), start.clone()
    optimizer = torch.optim.LBFGS([leaf], max_iter=1, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        loss, leaf.grad = field.at(leaf.detach())
        return torch.as_tensor(loss, dtype=leaf.dtype)

    for _ in range(LBFGS_STEPS):
        loss, slope = field.at(leaf.detach())
        done = bool(way.curve) and not loss < way.curve[-1]
        if done or not bool(slope.isfinite().all()) or time.perf_counter() > deadline or _spread(field) > ESCAPED:
            break
        way.add(field, loss)
        last = leaf.detach().clone()
        optimizer.step(closure)
    return last


def _adam(field: Field, start: Tensor, deadline: float, steps: int, way: _Way) -> Tensor:
    leaf = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=FIRST_STEP)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-3)
    for _ in range(steps):
        loss, leaf.grad = field.at(leaf.detach())
        if not math.isfinite(loss) or not bool(leaf.grad.isfinite().all()) or time.perf_counter() > deadline:
            break
        way.add(field, loss)
        optimizer.step()
        schedule.step()
    return leaf.detach().clone()


def _newton(field: Field, values: Tensor, deadline: float) -> Descent:
    """Steps by the pseudo-inverse of the derivative, halved until the gradient falls."""
    loss, slope = field.at(values)
    step, damping, outcome = torch.full_like(values, torch.inf), 0.0, "unsettled"
    for _ in range(NEWTON_STEPS):
        if not math.isfinite(loss) or not bool(slope.isfinite().all()):
            outcome = "not finite"
            break
        if _spread(field) > ESCAPED or loss < -1e8:
            outcome = "unbounded"
            break
        if time.perf_counter() > deadline:
            break
        step = _step(field.steepness(values, slope), slope, damping)
        if float(step.abs().max()) < SETTLED:
            outcome = _arrived(field, values, loss, slope)
            break
        values, loss, slope, damping = _moved(field, values, loss, slope, step, damping)
    flat = _flat(field, values) if outcome == "minimiser" else 0
    return Descent(outcome, values, loss, float(slope.abs().max()), float(step.abs().max()), flat)


def _arrived(field: Field, values: Tensor, loss: float, slope: Tensor) -> Outcome:
    """Where no step is left to make: at a minimum, or on a slope that is straight."""
    if float(slope.abs().max()) < STRAIGHT * (1 + abs(loss)):
        return "minimiser"
    down = -slope / slope.abs().max()
    found = [loss, *(field.at(values + reach * down)[0] for reach in (1.0, 10.0, 100.0))]
    field.set(values)
    return "unbounded" if all(b < a for a, b in itertools.pairwise(found)) else "corner"


def _moved(
    field: Field, values: Tensor, loss: float, slope: Tensor, step: Tensor, damping: float
) -> tuple[Tensor, float, Tensor, float]:
    share = min(1.0, LONGEST / float(step.abs().max()))
    for _ in range(12):
        ahead = values - share * step
        its_loss, its_slope = field.at(ahead)
        if math.isfinite(its_loss) and float(its_slope.norm()) < float(slope.norm()):
            return ahead, its_loss, its_slope, damping / 10
        share /= 2
    return values, loss, slope, max(damping, 1e-6) * 10


def _step(derivative: Tensor, slope: Tensor, damping: float) -> Tensor:
    """[m] (J + damping |J|)^+ slope; nothing along directions in which the gradient does not change."""
    left, values, right = torch.linalg.svd(derivative)
    kept = values > FLAT * values[0]
    inverse = torch.where(kept, values / (values.square() + (damping * values[0]) ** 2), 0.0)
    return right.T @ (inverse * (left.T @ slope))


def _flat(field: Field, values: Tensor) -> int:
    """Directions beside the constant one of the policy's logits in which the gradient does not change."""
    singular = torch.linalg.svdvals(field.derivative(values))
    found = int((singular <= 1e-7 * singular[0]).sum())
    model = policy_of(field.algorithm)
    return found if model is None else found - free_directions(field)


def _spread(field: Field) -> float:
    """Nats between the largest and the least log pi; of a reward model, between its weights."""
    law = field.law()
    law = field.values() if law is None else law
    return float(law.max() - law.min())
