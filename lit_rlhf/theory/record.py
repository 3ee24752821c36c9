"""An answer as plain values, for JSON."""

from __future__ import annotations

import math
from typing import Any

import torch

from lit_rlhf.data.collation import signal_of
from lit_rlhf.theory.finding import Finding
from lit_rlhf.theory.aims import described
from lit_rlhf.theory.matching import Match
from lit_rlhf.theory.report import Answer
from lit_rlhf.theory.variations import Variation


def tree(answer: Answer) -> dict[str, Any]:
    """All of it; numbers that are not finite are None."""
    finding, loss = answer.finding, answer.algorithm.loss
    pace = None if answer.pace is None else vars(answer.pace) | {"condition": answer.pace.condition}
    return plain({
        "name": answer.name, "algorithm": type(answer.algorithm).__name__, "loss": described(loss),
        "family": loss.family,
        "form": finding.aim.form, "tau": finding.tau or None,
        "signal": signal_of(answer.algorithm.needs), "labels": finding.setting.labels, "moves": finding.moves,
        "problem": _problem(finding), **_end(finding), "pace": pace,
        "matches": [_match(one) for one in finding.matches],
        "relation": None if finding.relation is None else finding.relation.symbols,
        "rounds": [law.exp() for law in finding.rounds],
        "variations": [_variation(one) for one in answer.variations], "distance": finding.distance,
    })


def _problem(finding: Finding) -> dict[str, Any]:
    problem = finding.setting.problem
    return {
        "responses": problem.names, "lengths": problem.lengths, "reward": problem.reward,
        "base": problem.log_base.exp(), "data": problem.mu, "pairs": problem.rho,
    }


def _end(finding: Finding) -> dict[str, Any]:
    end = finding.end
    return {
        "outcome": end.outcome, "how": end.how, "standard_error": end.error, "is_target": finding.is_target,
        "unique": finding.unique, "apart": finding.apart, "flat_directions": end.flat,
        "at": None if finding.best is None else finding.best.known.symbols,
        "law": None if end.log_law is None else end.log_law.exp(), "scores": end.scores,
    }


def _match(match: Match) -> dict[str, Any]:
    known = match.known
    return {
        "symbols": known.symbols, "words": known.words, "law": known.law, "total_variation": match.variation,
        "kl": match.divergence, "largest_log_ratio": match.ratio,
    }


def _variation(one: Variation) -> dict[str, Any]:
    return {"what": one.what, "moved": one.moved, **_end(one.finding)}


def plain(value: Any) -> Any:
    """Tensors as lists; what JSON does not know as None."""
    if isinstance(value, torch.Tensor):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
