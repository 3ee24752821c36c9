"""How the answer changes with the labels, the temperature, the pair law and what the data cover."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.data.collation import signal_of
from lit_rlhf.theory.finding import Finding, Setting, find
from lit_rlhf.theory.aims import tau_of, with_tau
from lit_rlhf.theory.problem import Problem


@dataclass(frozen=True)
class Variation:
    """The same question with one thing changed."""

    what: str
    finding: Finding
    moved: float | None
    """Total variation between the two answers; None where one of them has none."""


def variations(algorithm: Algorithm, found: Finding) -> Iterator[Variation]:
    """One after the other, until the setting's time is over."""
    for what, other, setting in _changed(algorithm, found.setting):
        if time.perf_counter() > setting.deadline:
            return
        covers = any(word in what for word in ("without", "parts"))
        its = find(other, setting, number=2 if covers else 1)
        yield Variation(what, its, _moved(found, its))


def _moved(one: Finding, other: Finding) -> float | None:
    first, second = one.end.log_law, other.end.log_law
    if first is None or "not finite" in (one.end.outcome, other.end.outcome):
        return None
    return float((first.exp() - second.exp()).abs().sum() / 2)


def _changed(algorithm: Algorithm, setting: Setting) -> Iterator[tuple[str, Algorithm, Setting]]:
    tau = tau_of(algorithm)
    for factor, name in ((0.5, "half"), (2.0, "twice")) if tau else ():
        yield f"tau {factor * tau:g} ({name})", with_tau(algorithm, factor * tau), setting
    if algorithm.samples:
        return
    signal = signal_of(algorithm.needs)
    if signal in ("gap", "preference"):
        for labels in ("soft", "sampled", "hard"):
            if labels != setting.labels and signal == "preference":
                yield f"{labels} labels", algorithm, dataclasses.replace(setting, labels=labels)
        yield "another pair law", algorithm, _on(setting, other_pairs(setting.problem))
        yield "pairs without one response", algorithm, _on(setting, without(setting.problem, _worst(setting.problem)))
        yield "pairs in two parts that never meet", algorithm, _on(setting, in_two_parts(setting.problem))
    else:
        yield "data of another law", algorithm, _on(setting, setting.problem.but(law=other_law(setting.problem)))
        yield "data without one response", algorithm, _on(setting, unseen(setting.problem, 1))
        yield "data without two responses", algorithm, _on(setting, unseen(setting.problem, 2))


def _on(setting: Setting, problem: Problem) -> Setting:
    return dataclasses.replace(setting, problem=problem)


def other_law(problem: Problem) -> Tensor:
    """[n] another law of the data: the base law upside down."""
    return (-problem.log_base).softmax(-1)


def other_pairs(problem: Problem) -> Problem:
    """Pairs by a random law, every pair possible."""
    generator = torch.Generator().manual_seed(1)
    drawn = torch.rand(problem.n, problem.n, generator=generator, dtype=torch.float64)
    return problem.but(pair_law=drawn.square() + 0.02)


def without(problem: Problem, response: int) -> Problem:
    """No pair has this response."""
    rho = problem.rho.clone()
    rho[response] = rho[:, response] = 0.0
    return problem.but(pair_law=rho)


def in_two_parts(problem: Problem) -> Problem:
    """Every second response is never compared with the others."""
    odd = torch.arange(problem.n) % 2
    return problem.but(pair_law=torch.where(odd[:, None] == odd, problem.rho, 0.0))


def unseen(problem: Problem, number: int) -> Problem:
    """The data lack so many responses: of those between the best and the worst, the first ones."""
    middle = problem.reward.argsort()[1 : 1 + number]
    law = problem.mu.clone()
    law[middle] = 0.0
    return problem.but(law=law / law.sum())


def _worst(problem: Problem) -> int:
    return int(problem.reward.argmin())
