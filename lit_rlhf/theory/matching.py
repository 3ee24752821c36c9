"""Which law is this? Laws that theory knows, compared with one that was found, whoever was trained."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.theory import boltzmann
from lit_rlhf.theory.aims import Aim
from lit_rlhf.theory.closed_forms import preferences, rewards, saturating
from lit_rlhf.theory.problem import Problem
from lit_rlhf.theory.residual import bradley_terry

STRAIGHT = 2e-3
"""Of the range of log-ratios: the largest deviation of a relation that is called linear."""


@dataclass(frozen=True)
class Known:
    """A law that theory knows."""

    symbols: str
    words: str
    law: Tensor
    """[n] probabilities."""
    boltzmann: bool = False
    """Whether it is u e^{r/tau} / Z at the composition's tau, u its reference or 1."""


@dataclass(frozen=True)
class Match:
    """How near a law is to a known one."""

    known: Known
    variation: float
    """sum |pi - q| / 2"""
    divergence: float
    """KL(pi || q) in nats; infinite where pi has responses that q has not."""
    ratio: float
    """max |log(pi/q)| in nats; infinite where q has responses of no probability."""


def target(problem: Problem, aim: Aim) -> Known:
    """pi^tau, or pi^delta where there is no temperature or each round's base measure is the policy before it."""
    if aim.form == "behaviour" and aim.tau:
        law = boltzmann.log_optimum(problem.reward, problem.log_base).exp()
        return Known("pi^delta", f"by rounds pi_t e^(r/{aim.tau:g}) / Z, each from the policy before it", law)
    return _boltzmann(problem, aim.tau, aim.form == "posterior")


def _boltzmann(problem: Problem, tau: float, posterior: bool) -> Known:
    base, u = (problem.log_base, "u ") if posterior else (None, "")
    if not tau:
        return Known("pi^delta", "the best responses alone", boltzmann.log_optimum(problem.reward, base).exp())
    of = "posterior form: u is the reference" if posterior else "prior form: u = 1"
    law = boltzmann.log_target(problem.reward, tau, base).exp()
    return Known(f"{u}e^(r/tau) / Z, tau = {tau:g}", of, law, True)


def known_laws(problem: Problem, aim: Aim) -> Iterator[Known]:
    """Laws to compare with, the composition's own target first."""
    reward, base, mu, tau, posterior = problem.reward, problem.log_base, problem.mu, aim.tau, aim.form == "posterior"
    yield target(problem, aim)
    yield Known("pi^delta", "the best responses alone", boltzmann.log_optimum(reward, base).exp())
    if tau and not aim.samples:
        law = boltzmann.log_target(reward, tau, mu.log()).exp()
        yield Known(f"mu e^(r/tau) / Z, tau = {tau:g}", "against the law mu of the data", law)
    for temperature in (tau, *aim.penalties):
        if temperature:
            for other in (True, False):
                yield dataclasses.replace(_boltzmann(problem, temperature, other), boltzmann=False)
            yield from _solved(_of_rewards(problem, temperature, base))
    if tau:
        yield from _solved(_of_wins(problem, tau, base if posterior else None, "u " if posterior else ""))
    for number in (2, 4, 8, 16):
        yield Known(f"the best of {number} draws from u", "F^N - F_-^N, F the law of rewards", rewards.best_of(reward, number, base))
    yield Known("u", "the reference itself: training moves nothing", base.exp())
    if not aim.samples:
        if tau:
            yield from _solved(_of_data(problem, tau, base if posterior else None, "u " if posterior else ""))
        better = boltzmann.log_target(reward, 1.0, mu.log()).exp()
        yield Known("mu e^r / Z", "the law of the demonstrations, mu that of the data", better)
        yield Known("mu", "the law of the data", mu)


Law = tuple[str, str, Callable[[], Tensor]]
"""Symbols, words, and the law where its equations have a solution."""


def _solved(laws: Iterable[Law]) -> Iterator[Known]:
    for symbols, words, law in laws:
        with contextlib.suppress(InputError):
            yield Known(symbols, words, law())


def _of_rewards(problem: Problem, tau: float, base: Tensor) -> list[Law]:
    reward = problem.reward
    return [
        (f"t u / (lambda - r), t = {tau:g}", "the forward KL to u as the regulariser",
         lambda: rewards.forward_kl(reward, tau, base)),
        ("u e^(q/tau) / Z", "Boltzmann in the reward's quantile under u",
         lambda: boltzmann.log_target(rewards.quantiles(reward, base), tau, base).exp()),
    ]


def _of_wins(problem: Problem, tau: float, base: Tensor | None, u: str) -> list[Law]:
    p = bradley_terry(problem.reward)
    return [
        (f"pi = {u}e^(P(y > pi)/tau) / Z", "the regularised Nash policy",
         lambda: preferences.regularised_nash(p, tau, base)),
    ]


def _of_data(problem: Problem, tau: float, base: Tensor | None, u: str) -> list[Law]:
    """Laws that depend on that of the data; most are no pi^tau."""
    reward, p, mu, rho = problem.reward, bradley_terry(problem.reward), problem.mu, problem.rho
    label = torch.sigmoid(reward - reward @ mu)
    return [
        (f"{u}e^(P(y > mu)/tau) / Z", "Boltzmann in the win rate against the data, not in the reward",
         lambda: boltzmann.log_target(preferences.win_rate(p, mu), tau, base).exp()),
        (f"{u}e^(L^+(p - 1/2)/tau) / Z", "least squares of log-ratios to (2p - 1)/(2 tau), on this pair law",
         lambda: preferences.ipo(rho, p, tau, base)),
        ("RA with c = E_mu r in the place of tau log Z", "a mixture of KL and chi^2 to the data",
         lambda: rewards.with_constant(reward, tau, float(mu @ reward), mu, base)),
        ("RA with c = 0 in the place of tau log Z", "biased, as the partition function is not 1",
         lambda: rewards.with_constant(reward, tau, 0.0, mu, base)),
        ("2 u P(y > u)", "pointwise contrast of pairs", lambda: preferences.nca_pair(p, problem.log_base)),
        ("argmax of sum mu (2q - 1) sigma(tau log(pi/u))", "all mass on what is desirable more often than not",
         lambda: saturating.saturated(saturating.kto_worth(mu, label), tau, base)),
        ("argmax of sum_y w(y) sigma(tau log(pi/u)), w the balance of wins",
         "all mass on what wins more often than it loses",
         lambda: saturating.saturated(saturating.apo_zero_worth(rho, p), tau, base)),
    ]


def matched(law: Tensor, problem: Problem, aim: Aim) -> tuple[Match, ...]:
    """All known laws, the composition's target first and the others from the nearest on. `law` [n] is log pi."""
    first, *others = (_match(law, known) for known in known_laws(problem, aim))
    return (first, *sorted(others, key=lambda match: round(match.variation, 8)))


def _match(law: Tensor, known: Known) -> Match:
    pi, q = law.exp(), known.law
    apart = torch.where(pi > 0, pi * (law - q.log()), 0.0)
    ratio = float((law - q.log()).abs().max()) if bool((q > 0).all()) else torch.inf
    return Match(known, float((pi - q).abs().sum() / 2), max(0.0, float(apart.sum())), ratio)


@dataclass(frozen=True)
class Relation:
    """A straight line: the log-ratio of a law to a base as a function of something known of a response."""

    symbols: str
    slope: float
    deviation: float
    """The largest, relative to the range."""


def relation(law: Tensor, problem: Problem) -> Relation | None:
    """The first linear relation of log pi, or of log(pi/u), that holds; None where none does."""
    lengths, ones = problem.lengths.double(), torch.ones_like(law)
    wins = preferences.win_rate(bradley_terry(problem.reward), problem.mu)
    bases = (("pi/u", problem.log_base), ("pi", torch.zeros_like(law)))
    for name, values in (("r", problem.reward), ("P(y > mu)", wins)):
        for of, base in bases:
            for left, columns in ((f"log({of})", [values, ones]), (f"log({of})/|y|", [lengths * values, lengths])):
                slope, deviation = _straight(law - base, torch.stack(columns, dim=1))
                if deviation < STRAIGHT:
                    return Relation(f"{left} = {slope:.4g} {name} + constant", slope, deviation)
    return None


def _straight(y: Tensor, design: Tensor) -> tuple[float, float]:
    """The first coefficient of least squares, and the largest deviation relative to the range of y [n]."""
    solution = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    deviation = (design @ solution - y).abs().max() / (y.max() - y.min()).clamp_min(1e-12)
    return float(solution[0]), float(deviation)
