"""What the numbers of coverage and identification mean for a run, in sentences: what was found, and what to do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lit_rlhf.data.coverage import Coverage
from lit_rlhf.data.identification import Identification, Scores

_MOST = 5
"""Findings of one data set."""
_WORTH = 0.01
"""Shares below it are in the table alone."""
_UNBOUNDED = "the logistic loss (DPO) has no finite optimum"


@dataclass(frozen=True)
class Finding:
    """One thing that is worth knowing before a run."""

    short: str
    """What was found."""
    remedy: str
    """What it means and what to do."""

    @property
    def whole(self) -> str:
        return f"{self.short}. {self.remedy}"


def findings(
    signal: str, coverage: Coverage | None, labels: Identification | None, scores: Scores | None, rows: int
) -> tuple[Finding, ...]:
    """Those that matter to what is read, the gravest first, at most five.

    Args:
        signal: what the composition reads; labels matter to `preference` alone.
        rows: of the data; where numbers are of fewer, the sentences say so.
    """
    of_labels = _of_labels(labels, rows) if signal == "preference" else ()
    every = [*of_labels, *_of_graph(coverage, rows), *_of_scores(scores, rows)]
    return tuple(every[:_MOST])


def _of_labels(found: Identification | None, rows: int) -> Iterator[Finding]:
    if found is None:
        return
    of = sample(found.rows, rows)
    single, ranked = found.single_certain, found.prompts - found.finite - found.single_certain
    if _matters(single, found.prompts):
        yield Finding(
            f"{of}{share(single, found.prompts)} of the prompts have one pair with one certain label: {_UNBOUNDED}",
            "Its margin grows without end whatever tau, and nothing holds the policy to the reference; stop early, smooth "
            "the labels (model.loss.label_smoothing), give probabilities, or compare more responses to the prompt",
        )
    if _matters(ranked, found.prompts):
        yield Finding(
            f"{of}{share(ranked, found.prompts)} of the prompts have responses that labels put above others for sure: "
            + _UNBOUNDED,
            "The win graph is not strongly connected there, and margins across its parts grow without end whatever tau; "
            "soft labels or smoothing (model.loss.label_smoothing) make every optimum finite, early stopping hides it",
        )
    if _matters(found.contradicted, found.repeated):
        yield Finding(
            f"{of}{found.repeated:,} pairs repeat, and two labels of one disagree in {found.disagreement:.0%} of the cases",
            "If opinions differ, this is what PRA learns from: keep it, or write the share of wins as the probability; if "
            + _mistaken(found),
        )
    if _matters(found.cyclic, found.prompts):
        yield Finding(
            f"{of}{share(found.cyclic, found.prompts)} of the prompts have cycles (a over b, b over c, c over a)",
            "No reward explains all of these labels: the optimum is a compromise, which depends on how often each pair is drawn "
            "(data.design); drawn labels make cycles by chance, which more labels of the same pairs average out",
        )
    if found.ties >= 0.25 * found.pairs:
        yield Finding(
            f"{of}{share(found.ties, found.pairs)} of the pairs are ties, with the label 1/2",
            "They pull margins to 0 with the greatest curvature a pair can have; look whether they mean equal, or not compared",
        )


def _mistaken(found: Identification) -> str:
    """In a model of labels that flip at the rate eps, two disagree with probability 2 eps (1 - eps)."""
    if found.disagreement >= 0.5:
        return "they are mistakes, nothing can be learned from these pairs"
    rate = (1 - math.sqrt(1 - 2 * found.disagreement)) / 2
    return f"they are mistakes, the rate is about {rate:.2f} (model.loss.flip_rate, or label_smoothing)"


def _of_graph(found: Coverage | None, rows: int) -> Iterator[Finding]:
    if found is not None and found.pairs and _matters(apart := found.prompts - found.connected, found.prompts):
        yield Finding(
            f"{sample(found.rows, rows)}{share(apart, found.prompts)} of the prompts have responses that no chain of pairs connects",
            "Between such parts RDA and PRA learn nothing, and the policy keeps what the reference says of them; add "
            "pairs that join them, or train on-line",
        )


def _of_scores(found: Scores | None, rows: int) -> Iterator[Finding]:
    if found is None:
        return
    of, some = sample(found.rows, rows), "RDA, PRA and group advantages"
    if _matters(found.alone, found.prompts):
        yield Finding(
            f"{of}{share(found.alone, found.prompts)} of the prompts have one response: {some} see nothing of them",
            "RA reads them and needs the partition function that differences are free of; score more responses to a prompt",
        )
    if _matters(found.constant, found.prompts):
        yield Finding(
            f"{of}{share(found.constant, found.prompts)} of the prompts have several responses of equal reward",
            f"To {some} they say no more than that their log-ratios are equal; a finer reward, or harder or easier "
            "prompts, say more",
        )


def details(labels: Identification | None, scores: Scores | None, rows: int) -> list[tuple[str, str]]:
    """Every number, for the table of the written report."""
    return [*(_label_rows(labels, rows) if labels else ()), *(_score_rows(scores, rows) if scores else ())]


def _label_rows(found: Identification, rows: int) -> Iterator[tuple[str, str]]:
    of, prompts = sample(found.rows, rows), found.prompts
    yield "finite optimum", (
        f"{of}in {share(found.finite, prompts)} of {prompts:,} prompts (win graph strongly connected); "
        f"{share(found.single_certain, prompts)} have one pair with one certain label"
    )
    yield "labels", (
        f"{share(found.certain, found.pairs)} certain, {share(found.ties, found.pairs)} ties, "
        f"curvature 4p(1-p) {found.curvature:.2f} on average"
    )
    yield "cycles", f"in {share(found.cyclic, prompts)} of the prompts"
    if found.repeated:
        yield "repeated pairs", (
            f"{found.repeated:,} of {found.distinct:,}, {share(found.contradicted, found.repeated)} of them labelled both ways; "
            f"two labels disagree in {found.disagreement:.1%} of the cases"
        )
    low, middle, high = found.compared
    yield "support", (
        f"a response is compared {low:,} times at least, {middle:,} in the median, {high:,} at most; "
        f"{share(found.once, found.responses)} once, {share(found.unbeaten, found.responses)} never lose, "
        f"{share(found.winless, found.responses)} never win"
    )


def _score_rows(found: Scores, rows: int) -> Iterator[tuple[str, str]]:
    of, several = sample(found.rows, rows), found.prompts - found.alone
    low, middle, high = found.spread
    yield "RA sees", (
        f"{of}{found.responses:,} rewards, {found.responses / found.prompts:.1f} to a prompt, "
        f"{found.distinct / found.prompts:.1f} of them distinct"
    )
    yield "RDA sees", (
        f"{found.pairs:,} differences in {share(several, found.prompts)} of the prompts, {share(found.ties, found.pairs)} of them 0; "
        f"rewards of a prompt are {low:.3g} apart at least, {middle:.3g} in the median, {high:.3g} at most"
    )
    yield "PRA sees", (
        f"{found.pairs:,} pairs, {share(found.ties, found.pairs)} of them ties; in the median the better one is preferred with "
        f"probability {1 / (1 + math.exp(-found.gap)):.2f}"
    )


def share(part: float, whole: float) -> str:
    """In per cent; neither 0% of something nor 100% of less than all."""
    ratio = part / whole if whole else 0.0
    if ratio in (0.0, 1.0):
        return f"{ratio:.0%}"
    if not 0.001 <= ratio <= 0.999:
        return "under 0.1%" if ratio < 0.5 else "over 99.9%"
    return f"{ratio:.0%}" if 0.1 < ratio < 0.9 else f"{ratio:.1%}"


def sample(read: int, rows: int) -> str:
    """Says of how many rows something is, where it is not of all."""
    return f"the first {read} rows: " if 0 < read < rows else ""


def _matters(part: int, whole: int) -> bool:
    return part >= max(1, _WORTH * whole)
