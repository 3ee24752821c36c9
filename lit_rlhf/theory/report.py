"""A finding in plain words and numbers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.data.collation import signal_of
from lit_rlhf.theory.finding import Finding, group_of
from lit_rlhf.theory.laboratory import described
from lit_rlhf.theory.matching import Match
from lit_rlhf.theory.pace import Pace
from lit_rlhf.theory.variations import Variation

WIDTH = 118
UNBOUNDED = "It ends nowhere: no minimiser is finite. Log-ratios grow without bound, and early stopping alone keeps them."
SIGNALS = {
    "gap": "pairs with reward differences", "preference": "pairs", "reward": "scored responses", "label": "good or bad responses",
    "demonstration": "demonstrations, of the law mu e^r / Z", "prompt": "its own samples",
}
LABELS = {
    "soft": "labels are the probabilities p = sigma(r - r')", "sampled": "labels are drawn with p = sigma(r - r')",
    "hard": "the better response always wins",
}


@dataclass(frozen=True)
class Answer:
    """All that is found of a composition."""

    name: str
    algorithm: Algorithm
    finding: Finding
    pace: Pace | None
    variations: tuple[Variation, ...]


def text(answer: Answer) -> str:
    """What the command prints."""
    sections = [_composition(answer), _problem(answer), _ends(answer), _laws(answer), _uniqueness(answer), _rates(answer), _changes(answer)]
    return "\n\n".join("\n".join(_wrapped(section)) for section in sections if section)


def summary(finding: Finding) -> str:
    """One line."""
    end = finding.end
    if end.outcome in ("not finite", "unbounded"):
        return {"not finite": "no finite loss", "unbounded": f"no finite minimiser. {_tendency(finding)}"}[end.outcome]
    where = _scores(finding)[0] if end.log_law is None else _verdict(finding)
    extra = "" if finding.unique else f" Starts end apart by {finding.apart:.1e}."
    return f"{'' if end.outcome != 'unsettled' else '(not settled) '}{where}{extra}{''.join(f' {one}.' for one in finding.moves)}"


def _wrapped(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_long_words=False, drop_whitespace=True) if len(line) > WIDTH else [line]


def _composition(answer: Answer) -> list[str]:
    algorithm, finding = answer.algorithm, answer.finding
    form = "posterior form (a reference is its base measure)" if finding.posterior else "prior form (no base measure)"
    tau = f"tau = {finding.tau:g}" if finding.tau else "no temperature"
    return [
        f"{answer.name}: {type(algorithm).__name__}, loss {described(algorithm.loss)}",
        f"  family {algorithm.loss.family}, {form}, {tau}; reads {SIGNALS[signal_of(algorithm.needs)]}",
        *(f"  {one}: the law below is where it stands after the search, and its target moves with it" for one in finding.moves),
    ]


def _problem(answer: Answer) -> list[str]:
    finding = answer.finding
    setting, problem = finding.setting, finding.setting.problem
    signal = signal_of(answer.algorithm.needs)
    lines = [f"On a problem that can be solved exactly: {problem.n} responses of 1 to {int(problem.lengths.max())} tokens, standard deviation of the reward {float(problem.reward.std(correction=0)):.3g}."]
    if signal in ("gap", "preference"):
        lines.append(f"  Pairs: every two responses of the reference's law; {LABELS[setting.labels]}.")
    group = group_of(answer.algorithm, setting)
    if signal != "prompt" and group:
        lines.append(f"  All groups of {group} draws from the reference's law, with their probabilities.")
    if signal == "prompt":
        how = {"exact": "all groups that the policy may sample, with their probabilities", "drawn": "drawn groups, the step falling, the policy averaged at the end"}
        lines.append(f"  The composition's own loop with group_size {answer.algorithm.group_size}: {how[finding.end.how]}.")
    return lines


def _ends(answer: Answer) -> list[str]:
    finding, end = answer.finding, answer.finding.end
    aim = finding.matches[0].known if finding.matches else None
    lines = [] if aim is None else [f"Target in theory: {aim.symbols} ({aim.words})."]
    if end.outcome == "not finite":
        return [*lines, "It ends nowhere: the loss or its gradient is not a finite number, already on this problem. Look at the head."]
    if end.outcome == "unbounded":
        return [*lines, f"{UNBOUNDED} {_tendency(finding)}"]
    if end.outcome == "unsettled":
        lines.append("The search had not settled when its time or its steps were over: what follows is where it stood.")
    if end.log_law is None:
        return [*lines, *_scores(finding)]
    return [*lines, f"Where training ends: {_verdict(finding)}"]


def _tendency(finding: Finding) -> str:
    """What the law becomes on the way to infinity."""
    if finding.best is not None:
        return f"The law tends to {finding.best.known.symbols}: {finding.best.known.words}."
    return "The law where the search was broken off is below." if finding.end.log_law is not None else ""


def _scores(finding: Finding) -> list[str]:
    error = finding.end.scores - finding.setting.problem.reward
    apart = float((error - error.mean()).abs().max())
    whole = float(error.abs().max())
    if whole <= 1e-4:
        return [f"The score is the reward itself (largest error {whole:.1e})."]
    if apart <= 1e-4:
        return [f"The score is the reward up to a constant of the prompt (largest error {apart:.1e})."]
    return [f"The score is not the reward, not even up to a constant of the prompt (largest error {apart:.3g})."]


def _verdict(finding: Finding) -> str:
    first, best = finding.matches[0], finding.best
    near = f"TV {first.variation:.1e}, KL {first.divergence:.1e} nats"
    if finding.is_target:
        return f"at pi^tau = {first.known.symbols} ({near})."
    if best is first:
        return f"on the best responses alone, {first.known.symbols} ({near})."
    away = f"not at {first.known.symbols} ({near})"
    if best is not None:
        return f"at {best.known.symbols}: {best.known.words} (TV {best.variation:.1e}). It is {away}."
    if finding.relation is not None:
        return f"where {finding.relation.symbols}. It is {away}."
    if not finding.tau and finding.setting.problem.reward.argmax() == finding.end.log_law.argmax():
        best_mass = float(finding.end.log_law.exp().max())
        return f"still on its way to the best response, which has {best_mass:.4f} of the probability; {near} from {first.known.symbols}."
    return f"at a law that no formula known here gives, found by optimisation. It is {away}."


def _laws(answer: Answer) -> list[str]:
    finding = answer.finding
    problem, end = finding.setting.problem, finding.end
    columns = {"r": problem.reward, "u": problem.log_base.exp()}
    if end.log_law is not None:
        columns |= {"target": finding.matches[0].known.law} if finding.matches else {}
        columns |= {"found": end.log_law.exp()}
        if finding.posterior:
            columns |= {"log(found/u)": end.log_law - problem.log_base}
    else:
        columns |= {"score": end.scores}
    rows = [["response", *columns]]
    for place, name in enumerate(problem.names):
        rows.append([name, *(f"{float(values[place]):.4f}" for values in columns.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def _uniqueness(answer: Answer) -> list[str]:
    finding = answer.finding
    if finding.end.outcome in ("not finite", "unbounded"):
        return []
    number, lines = len(finding.ends), []
    if number > 1:
        same = "the same" if finding.unique else "different ones"
        lines.append(f"Uniqueness: {number} starts end at {same} (apart by {finding.apart:.1e}).")
    if finding.end.flat > 0 and finding.end.log_law is not None:
        lines.append(f"  {finding.end.flat} directions of the policy do not change the loss there: the data do not say all.")
    for one in answer.variations:
        if "without" in one.what or "parts" in one.what:
            lines.append(f"  {one.what}: {_of_variation(one)}")
    return lines


def _of_variation(one: Variation) -> str:
    finding = one.finding
    end = finding.end
    if end.outcome in ("not finite", "unbounded"):
        return {"not finite": "the loss is no finite number", "unbounded": "no finite minimiser; log-ratios grow without bound"}[end.outcome]
    if end.log_law is None:
        return f"starts end {finding.apart:.1e} apart" if not finding.unique else "the same for every start"
    many = "" if finding.unique else f"; starts end apart by {finding.apart:.2g}: it is not identified"
    where = _short(finding.best, finding)
    moved = "" if one.moved is None else f", TV {one.moved:.2g} from the answer above"
    return f"{where}{moved}{many}"


def _short(best: Match | None, finding: Finding) -> str:
    if best is not None:
        return f"at {best.known.symbols}"
    return f"not at {finding.matches[0].known.symbols} (TV {finding.matches[0].variation:.2g})"


def _rates(answer: Answer) -> list[str]:
    found = answer.pace
    if found is None:
        return []
    return [
        f"Rate of plain gradient descent there, at the step 1/lambda_max = {1 / found.largest:.3g}: each step leaves "
        f"{found.measured:.5f} of the error (predicted 1 - lambda_2/lambda_max = {found.predicted:.5f}; condition number {found.condition:.3g}).",
    ]


def _changes(answer: Answer) -> list[str]:
    lines = [f"  {one.what}: {_of_variation(one)}" for one in answer.variations if not ("without" in one.what or "parts" in one.what)]
    return ["How the answer changes:", *lines] if lines else []


def tree(answer: Answer) -> dict[str, Any]:
    """The same as plain values, for JSON: numbers that are not finite are None."""
    finding, problem = answer.finding, answer.finding.setting.problem
    return _plain({
        "name": answer.name, "algorithm": type(answer.algorithm).__name__, "loss": described(answer.algorithm.loss),
        "family": answer.algorithm.loss.family, "form": "posterior" if finding.posterior else "prior", "tau": finding.tau or None,
        "signal": signal_of(answer.algorithm.needs), "labels": finding.setting.labels, "moves": list(finding.moves),
        "problem": {
            "responses": problem.names, "lengths": problem.lengths, "reward": problem.reward, "base": problem.log_base.exp(),
            "data": problem.mu, "pairs": problem.rho,
        },
        "outcome": finding.end.outcome, "how": finding.end.how, "standard_error": finding.end.error,
        "is_target": finding.is_target, "unique": finding.unique, "apart": finding.apart, "flat_directions": finding.end.flat,
        "law": None if finding.end.log_law is None else finding.end.log_law.exp(), "scores": finding.end.scores,
        "matches": [
            {"symbols": one.known.symbols, "words": one.known.words, "total_variation": one.variation, "kl": one.divergence, "law": one.known.law}
            for one in finding.matches
        ],
        "relation": None if finding.relation is None else finding.relation.symbols,
        "pace": None if answer.pace is None else vars(answer.pace) | {"condition": answer.pace.condition},
        "variations": [
            {
                "what": one.what, "outcome": one.finding.end.outcome, "moved": one.moved, "unique": one.finding.unique,
                "apart": one.finding.apart, "is_target": one.finding.is_target,
                "at": None if one.finding.best is None else one.finding.best.known.symbols,
                "law": None if one.finding.end.log_law is None else one.finding.end.log_law.exp(),
            }
            for one in answer.variations
        ],
        "divergence": finding.divergence,
    })


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
