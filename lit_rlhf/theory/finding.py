"""What a composition converges to on a problem: where its training ends, and what law that is."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.components.reference import EMA
from lit_rlhf.data.collation import signal_of
from lit_rlhf.theory.aims import Aim, aim_of, moves
from lit_rlhf.theory.descent import Descent, descend
from lit_rlhf.theory.field import Field, starts
from lit_rlhf.theory.laboratory import adapted, set_law
from lit_rlhf.theory.loop import Course, train
from lit_rlhf.theory.matching import Match, Relation, matched, relation
from lit_rlhf.theory.problem import LARGEST_GROUP, Labels, Problem
from lit_rlhf.theory.rounds import rounds
from lit_rlhf.theory.tabular import By

STARTS = {False: 3, True: 2}
"""Off-line, and of an on-line run."""
SAME = {"off-line": 1e-4, "exact": 5e-3, "drawn": 2e-2}
"""Total variation up to which two laws are called the same, by how they were found."""
ROUNDS = 4
"""Of a reference that follows."""
CORNER = 2e-3
"""The same where the gradient jumps, and the search has stopped beside it."""
NEAR = 1e-2
"""Nats up to which log-ratios must agree besides, where a minimiser was found."""


@dataclass(frozen=True)
class Setting:
    """What a composition is asked on."""

    problem: Problem
    labels: Labels = "sampled"
    group: int = 4
    """Responses of a prompt in the data."""
    deadline: float = math.inf
    """`time.perf_counter()` by which searches end."""
    updates: int = 400
    """Of an on-line run."""
    by: By = "response"
    """What the policy has a logit for."""
    steps: int = 120
    """Of the search before Newton's method, off-line."""


@dataclass(frozen=True)
class End:
    """Where training ends, from one start."""

    outcome: str
    """One of `descent.Outcome`; of an on-line run `settled`, `unsettled` or `not finite`."""
    log_law: Tensor | None
    """[n] log pi; None for reward models."""
    scores: Tensor | None
    """[n] of a reward model."""
    loss: float = math.nan
    flat: int = 0
    error: float = 0.0
    """Standard error of a probability; 0 without draws."""
    how: str = "off-line"
    """off-line; on-line `exact` (every group by its probability) or `drawn`."""
    laws: tuple[Tensor, ...] = field(default=(), repr=False)
    """On the way."""
    curve: tuple[float, ...] = field(default=(), repr=False)
    weights: Tensor | None = field(default=None, repr=False)
    """[m] off-line, all that is trained."""


def ends(algorithm: Algorithm, setting: Setting, number: int | None = None) -> tuple[End, ...]:
    """Training from so many starts, the first one at the base law."""
    search = _online if algorithm.samples else _offline
    return search(algorithm, setting, number or STARTS[algorithm.samples])


# ---- off-line


def exact_field(algorithm: Algorithm, setting: Setting) -> Field:
    """The expected gradient of an off-line composition."""
    lab = adapted(algorithm, setting.problem, setting.by)
    return Field(lab, setting.problem.batch(signal_of(lab.needs), setting.labels, group_of(lab, setting)))


def group_of(algorithm: Algorithm, setting: Setting) -> int:
    """Scored responses that the head compares; 0 where it looks at each alone."""
    return min(setting.group, LARGEST_GROUP) if "group" in algorithm.loss.needs else 0


def _offline(algorithm: Algorithm, setting: Setting, number: int) -> tuple[End, ...]:
    found = exact_field(algorithm, setting)
    searches = (descend(found, start, setting.deadline, setting.steps) for start in starts(found, number))
    return tuple(_end(found, search, setting) for search in searches)


def _end(found: Field, descent: Descent, setting: Setting) -> End:
    found.set(descent.weights)
    law = found.law()
    scores = None
    if law is None:
        with torch.no_grad():
            scores = found.algorithm.reward.score(setting.problem.sequences())
    laws = descent.laws if law is None else (*descent.laws, law)
    return End(
        descent.outcome, law, scores, descent.loss, descent.flat, laws=laws, curve=descent.curve,
        weights=descent.weights,
    )


# ---- on-line


def _online(algorithm: Algorithm, setting: Setting, number: int) -> tuple[End, ...]:
    found = []
    for seed in range(number):
        now = time.perf_counter()
        share = dataclasses.replace(setting, deadline=now + (setting.deadline - now) / (number - seed))
        found.append(_run(algorithm, share, seed))
    return tuple(found)


def _run(algorithm: Algorithm, setting: Setting, seed: int) -> End:
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    lab = adapted(algorithm, setting.problem, setting.by)
    if seed:
        set_law(lab, setting.problem.log_base + torch.randn(setting.problem.n, dtype=torch.float64))
    course = train(lab, setting.updates, setting.deadline)
    torch.set_rng_state(state)
    return End(
        _settled(course), course.law, None, error=course.error, how="exact" if course.exact else "drawn",
        laws=course.laws,
    )


def _settled(course: Course) -> str:
    if not course.finite or not bool(course.law.isfinite().all()):
        return "not finite"
    return "settled" if course.complete else "unsettled"


# ---- what it is


@dataclass(frozen=True)
class Finding:
    """Where a composition ends, what that is, and whether it always ends there."""

    setting: Setting
    aim: Aim
    ends: tuple[End, ...]
    matches: tuple[Match, ...] = ()
    """Known laws, the composition's own target first, compared with the first end."""
    relation: Relation | None = None
    moves: tuple[str, ...] = ()
    """What of the target is not fixed, in words."""
    rounds: tuple[Tensor, ...] = field(default=(), repr=False)
    """Where the reference follows the policy, off-line: [n] log pi of every round of search and following."""

    @property
    def tau(self) -> float:
        """Of the target; 0 where there is none."""
        return self.aim.tau

    @property
    def end(self) -> End:
        """From the base law."""
        return self.ends[0]

    @property
    def settled(self) -> tuple[End, ...]:
        """The ends of searches that were not broken off; all of them where each was."""
        return tuple(end for end in self.ends if end.outcome != "unsettled") or self.ends

    @property
    def apart(self) -> float:
        """The largest total variation between settled ends; of scores, the largest difference but for a constant."""
        if self.end.log_law is None:
            scores = torch.stack([end.scores - end.scores.mean() for end in self.settled])
            return float((scores.amax(0) - scores.amin(0)).max())
        laws = torch.stack([end.log_law.exp() for end in self.settled])
        return float(max((laws - law).abs().sum(-1).max() / 2 for law in laws))

    @property
    def tolerance(self) -> float:
        """Total variation up to which laws are called the same."""
        corner = CORNER if any(end.outcome == "corner" for end in self.ends) else 0.0
        return max(SAME[self.end.how], corner, 4 * max(end.error for end in self.ends))

    @property
    def unique(self) -> bool:
        """Whether all starts end at one law."""
        return self.apart <= self.tolerance

    def same(self, match: Match) -> bool:
        """Whether it is this law. Where one response is likely all laws are near each other, and log-ratios tell."""
        return match.variation <= self.tolerance and (match.ratio <= NEAR or self.end.outcome != "minimiser")

    @property
    def is_target(self) -> bool:
        """Whether it is pi^tau."""
        return bool(self.matches) and self.matches[0].known.boltzmann and self.same(self.matches[0])

    @property
    def best(self) -> Match | None:
        """The known law that it is: the composition's own target, or the nearest one; None where it is none of them."""
        return next((match for match in self.matches if self.same(match)), None)

    @property
    def distance(self) -> tuple[float, ...]:
        """KL(pi || target) on the way, in nats; total variation where the target lacks responses."""
        if not self.matches:
            return ()
        goal = self.matches[0].known.law
        if not bool((goal > 0).all()):
            return tuple(float((law.exp() - goal).abs().sum() / 2) for law in self.end.laws)
        return tuple(max(0.0, float((law.exp() * (law - goal.log())).nansum())) for law in self.end.laws)


def find(algorithm: Algorithm, setting: Setting, number: int | None = None) -> Finding:
    """Trains a composition on the setting's problem and says where that ends."""
    aim = aim_of(algorithm)
    found = Finding(setting, aim, ends(algorithm, setting, number), moves=tuple(moves(algorithm)))
    if isinstance(algorithm.reference, EMA) and not algorithm.samples:
        laws = rounds(exact_field(algorithm, setting), setting.problem, ROUNDS, setting.deadline)
        found = dataclasses.replace(found, rounds=laws)
    law = found.end.log_law
    if law is None or not bool(law.isfinite().all()):
        return found
    known, line = matched(law, setting.problem, aim), relation(law, setting.problem)
    return dataclasses.replace(found, matches=known, relation=line)
