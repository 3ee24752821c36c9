"""A finding in plain words and numbers."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.data.collation import signal_of
from lit_rlhf.theory.finding import Finding, group_of
from lit_rlhf.theory.aims import described
from lit_rlhf.theory.matching import Match, relation
from lit_rlhf.theory.pace import Pace
from lit_rlhf.theory.variations import Variation

WIDTH = 118
UNBOUNDED = "It ends nowhere: no minimiser is finite. Log-ratios grow without bound; only early stopping keeps them."
NOT_FINITE = "It ends nowhere: loss or gradient is not a finite number, already on this problem. Look at the head."
SIGNALS = {
    "gap": "pairs with reward differences", "preference": "pairs", "reward": "scored responses",
    "label": "good or bad responses", "demonstration": "demonstrations, of the law mu e^r / Z",
    "prompt": "its own samples",
}
LABELS = {
    "soft": "labels are the probabilities p = sigma(r - r')", "sampled": "labels are drawn with p = sigma(r - r')",
    "hard": "the better response always wins",
}


HOW = {
    "exact": "all groups that the policy may sample, with their probabilities",
    "drawn": "drawn groups, the step falling, the policy averaged at the end",
}
FORMS = {
    "posterior": "posterior form (a reference is its base measure)", "prior": "prior form (no base measure)",
    "behaviour": "against the behaviour (its base measure is the policy that sampled)",
}
ON_ITS_WAY = 0.05
"""Total variation from the best responses alone, which are reached in infinite time."""
COVERAGE = ("without", "parts")
"""What is said of missing data, in the names of variations."""


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
    parts = (_composition, _problem, _ends, _laws, _uniqueness, _rates, _changes)
    sections = [part(answer) for part in parts]
    return "\n\n".join("\n".join(_wrapped(section)) for section in sections if section)


def summary(finding: Finding) -> str:
    """One line."""
    end = finding.end
    if end.outcome in ("not finite", "unbounded"):
        return {"not finite": "no finite loss", "unbounded": f"no finite minimiser. {_tendency(finding)}"}[end.outcome]
    where = _scores(finding)[0] if end.log_law is None else _verdict(finding)
    extra = "" if finding.unique else f" Starts end apart by {finding.apart:.1e}."
    settled = "(not settled) " if end.outcome == "unsettled" else ""
    return f"{settled}{where}{extra}" + "".join(f" {one}." for one in finding.moves)


def _wrapped(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, subsequent_indent="    ") if len(line) > WIDTH else [line]


def _composition(answer: Answer) -> list[str]:
    algorithm, finding = answer.algorithm, answer.finding
    tau = f"tau = {finding.tau:g}" if finding.tau else "no temperature"
    return [
        f"{answer.name}: {type(algorithm).__name__}, loss {described(algorithm.loss)}",
        f"  family {algorithm.loss.family}, {FORMS[finding.aim.form]}, {tau}",
        f"  reads {SIGNALS[signal_of(algorithm.needs)]}",
        *(f"  {one}: what is below is where it stands after the search, and moves on" for one in finding.moves),
    ]


def _problem(answer: Answer) -> list[str]:
    finding = answer.finding
    setting, problem = finding.setting, finding.setting.problem
    signal = signal_of(answer.algorithm.needs)
    size = f"{problem.n} responses of 1 to {int(problem.lengths.max())} tokens"
    spread = float(problem.reward.std(correction=0))
    lines = [f"On a problem that can be solved exactly: {size}, standard deviation of the reward {spread:.3g}."]
    if signal in ("gap", "preference"):
        lines.append(f"  Pairs: every two responses of the reference's law; {LABELS[setting.labels]}.")
    group = group_of(answer.algorithm, setting)
    if signal != "prompt" and group:
        whole = "" if group == setting.group else f" (the configuration has {setting.group})"
        lines.append(f"  All groups of {group}{whole} draws from the reference's law, with their probabilities.")
    if signal == "prompt":
        lines.append(f"  Its own loop, group_size {answer.algorithm.group_size}: {HOW[finding.end.how]}.")
    return lines


def _ends(answer: Answer) -> list[str]:
    finding, end = answer.finding, answer.finding.end
    aim = finding.matches[0].known if finding.matches else None
    lines = [] if aim is None else [f"Target in theory: {aim.symbols} ({aim.words})."]
    if end.outcome == "not finite":
        return [*lines, NOT_FINITE]
    if end.outcome == "unbounded":
        return [*lines, f"{UNBOUNDED} {_tendency(finding)}"]
    if end.outcome == "unsettled":
        lines.append("The search had not settled when its time or its steps were over: what follows is where it stood.")
    if end.log_law is None:
        return [*lines, *_scores(finding)]
    first = "the first round, before the reference moves," if finding.rounds else "training"
    return [*lines, f"Where {first} ends: {_verdict(finding)}", *_rounds(finding)]


def _rounds(finding: Finding) -> list[str]:
    if len(finding.rounds) < 2:
        return []
    best = finding.setting.problem.reward.argmax()
    shares = ", ".join(f"{float(law.exp()[best]):.6f}" for law in finding.rounds)
    lines = [relation(law, finding.setting.problem) for law in finding.rounds]
    told = "; ".join(one.symbols for one in lines if one is not None)
    return [f"  Round by round the reference follows and the target moves on: {told}. The best response has {shares}."]


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
    near = f"TV {first.variation:.1e}"
    near += f", KL {first.divergence:.1e} nats" if first.divergence < math.inf else ""
    if finding.is_target:
        return f"at pi^tau = {first.known.symbols} ({near})."
    if best is first:
        return f"on the best responses alone, {first.known.symbols} ({near})."
    away = f"not at {first.known.symbols} ({near})"
    if best is not None:
        return f"at {best.known.symbols}: {best.known.words} (TV {best.variation:.1e}). It is {away}."
    if finding.relation is not None:
        nearly = "" if finding.relation.deviation < 1e-6 else f" to {finding.relation.deviation:.1%} of its range"
        return f"where {finding.relation.symbols}{nearly}. It is {away}."
    if not first.known.boltzmann and not finding.aim.penalties and first.variation < ON_ITS_WAY:
        best_mass = float(finding.end.log_law.exp().max())
        return f"still on its way to the best response, which has the probability {best_mass:.4f} ({near})."
    return f"at a law that no formula known here gives, found by optimisation. It is {away}."


def _laws(answer: Answer) -> list[str]:
    finding = answer.finding
    problem, end = finding.setting.problem, finding.end
    columns = {"r": problem.reward, "u": problem.log_base.exp()}
    if end.log_law is not None:
        columns |= {"target": finding.matches[0].known.law} if finding.matches else {}
        columns |= {"found": end.log_law.exp()}
        if finding.aim.form == "posterior":
            columns |= {"log(found/u)": end.log_law - problem.log_base}
    else:
        columns |= {"score": end.scores}
    rows = [["response", *columns]]
    for place, name in enumerate(problem.names):
        rows.append([name, *(f"{float(values[place]):.4g}" for values in columns.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def _uniqueness(answer: Answer) -> list[str]:
    finding = answer.finding
    if finding.end.outcome in ("not finite", "unbounded"):
        return []
    number, lines = len(finding.settled), []
    if number > 1:
        same = "the same" if finding.unique else "different ones"
        lines.append(f"Uniqueness: {number} starts end at {same} (apart by {finding.apart:.1e}).")
    if finding.end.flat > 0 and finding.end.log_law is not None:
        lines.append(f"  {finding.end.flat} directions of the policy change no loss there: the data do not say all.")
    for one in answer.variations:
        if any(word in one.what for word in COVERAGE):
            lines.append(f"  {one.what}: {_of_variation(one)}")
    return lines


def _of_variation(one: Variation) -> str:
    finding = one.finding
    end = finding.end
    if end.outcome in ("not finite", "unbounded"):
        endless = "no finite minimiser; log-ratios grow without bound"
        return endless if end.outcome == "unbounded" else "the loss is no finite number"
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
        f"{found.measured:.5f} of the error (predicted 1 - lambda_2/lambda_max = {found.predicted:.5f}; condition "
        f"number {found.condition:.3g}).",
    ]


def _changes(answer: Answer) -> list[str]:
    others = [one for one in answer.variations if not any(word in one.what for word in COVERAGE)]
    lines = [f"  {one.what}: {_of_variation(one)}" for one in others]
    return ["How the answer changes:", *lines] if lines else []
