"""Which law is this? Laws that theory knows, tried one after the other, by the law alone and never by who was trained."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.theory import boltzmann
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
    """KL(pi || q) in nats."""
    ratio: float
    """max |log(pi/q)| in nats; infinite where q has responses of no probability."""


def target(problem: Problem, tau: float, posterior: bool) -> Known:
    """pi^tau, or pi^delta where there is no temperature."""
    base, u = (problem.log_base, "u ") if posterior else (None, "")
    if not tau:
        words = "the best responses alone" + (", in the proportions of the reference" if posterior else "")
        return Known("pi^delta", words, boltzmann.log_optimum(problem.reward, base).exp())
    of = "posterior form: u is the reference" if posterior else "prior form: u = 1"
    return Known(f"{u}e^(r/tau) / Z, tau = {tau:g}", of, boltzmann.log_target(problem.reward, tau, base).exp(), True)


def known_laws(problem: Problem, tau: float, posterior: bool) -> Iterator[Known]:
    """Laws to compare with, the composition's own target first."""
    reward, base, mu = problem.reward, problem.log_base, problem.mu
    yield target(problem, tau, posterior)
    if tau:
        other = target(problem, tau, not posterior)
        yield Known(other.symbols, other.words, other.law)
        yield Known(f"mu e^(r/tau) / Z, tau = {tau:g}", "against the law mu of the data", boltzmann.log_target(reward, tau, mu.log()).exp())
        yield from _closed(problem, tau, base if posterior else None, "u " if posterior else "")
    yield Known("mu e^r / Z", "the law of the demonstrations, mu that of the data", boltzmann.log_target(reward, 1.0, mu.log()).exp())
    yield Known("mu", "the law of the data", mu)
    yield Known("u", "the reference itself: training moves nothing", base.exp())
    yield Known("pi^delta", "the best responses alone", boltzmann.log_optimum(reward, base).exp())


def _closed(problem: Problem, tau: float, base: Tensor | None, u: str) -> Iterator[Known]:
    """Laws at this temperature that are no pi^tau, where their equations have a solution."""
    reward, p, mu, rho = problem.reward, bradley_terry(problem.reward), problem.mu, problem.rho
    label = torch.sigmoid(reward - reward @ mu)
    laws: list[tuple[str, str, Callable[[], Tensor]]] = [
        (f"{u}e^(P(y > mu)/tau) / Z", "Boltzmann in the win rate against the data, not in the reward",
         lambda: boltzmann.log_target(preferences.win_rate(p, mu), tau, base).exp()),
        (f"{u}e^(L^+(p - 1/2)/tau) / Z", "least squares of log-ratios to (2p - 1)/(2 tau), on this pair law",
         lambda: preferences.ipo(rho, p, tau, base)),
        (f"{u}e^(q/tau) / Z", "Boltzmann in the reward's quantile under u",
         lambda: boltzmann.log_target(rewards.quantiles(reward, base), tau, base).exp()),
        (f"pi = {u}e^(P(y > pi)/tau) / Z", "the regularised Nash policy", lambda: preferences.regularised_nash(p, tau, base)),
        ("RA with c = E_mu r in the place of tau log Z", "a mixture of KL and chi^2 to the data",
         lambda: rewards.with_constant(reward, tau, float(mu @ reward), mu, base)),
        ("RA with c = 0 in the place of tau log Z", "biased, as the partition function is not 1",
         lambda: rewards.with_constant(reward, tau, 0.0, mu, base)),
        ("argmax of sum mu (2q - 1) sigma(tau log(pi/u))", "all mass on what is desirable more often than not",
         lambda: saturating.saturated(saturating.kto_worth(mu, label), tau, base)),
        ("argmax of sum_y w(y) sigma(tau log(pi/u)), w the balance of wins", "all mass on what wins more often than it loses",
         lambda: saturating.saturated(saturating.apo_zero_worth(rho, p), tau, base)),
    ]
    if base is not None:
        laws += [
            ("tau u / (lambda - r)", "the forward KL to u as the regulariser", lambda: rewards.forward_kl(reward, tau, base)),
            ("2 u P(y > u)", "pointwise contrast of pairs", lambda: preferences.nca_pair(p, base)),
        ]
    for symbols, words, law in laws:
        with contextlib.suppress(InputError):
            yield Known(symbols, words, law())


def matched(law: Tensor, problem: Problem, tau: float, posterior: bool) -> tuple[Match, ...]:
    """All known laws, the composition's target first and the others from the nearest on. `law` [n] is log pi."""
    first, *others = (_match(law, known) for known in known_laws(problem, tau, posterior))
    return (first, *sorted(others, key=lambda match: match.variation))


def _match(law: Tensor, known: Known) -> Match:
    pi, q = law.exp(), known.law
    apart = torch.where(pi > 0, pi * (law.clamp_min(-745) - q.clamp_min(1e-300).log()), 0.0)
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
    lengths = problem.lengths.double()
    wins = preferences.win_rate(bradley_terry(problem.reward), problem.mu)
    ones = torch.ones_like(law)
    for base, of, values, name in (
        (base, of, values, name)
        for name, values in (("r", problem.reward), ("P(y > mu)", wins))
        for base, of in ((problem.log_base, "pi/u"), (torch.zeros_like(law), "pi"), (problem.mu.log(), "pi/mu"))
    ):
        y = law - base
        for left, columns in ((f"log({of})", [values, ones]), (f"log({of})/|y|", [lengths * values, lengths, ones])):
            design = torch.stack(columns, dim=1)
            solution = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
            deviation = float((design @ solution - y).abs().max() / (y.max() - y.min()).clamp_min(1e-12))
            trivial = len(columns) == 3 and abs(float(solution[2])) > 1e-3 * float(y.abs().max())
            if deviation < STRAIGHT and not trivial:
                return Relation(f"{left} = {float(solution[0]):.4g} {name} + constant", float(solution[0]), deviation)
    return None
