"""What became of the rows: counts, lengths, samples with the trained tokens marked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lit_rlhf.data.coverage import Coverage
from lit_rlhf.data.findings import Finding, details, findings, sample
from lit_rlhf.data.identification import Identification, Scores
from lit_rlhf.data.records import Group

OPEN, CLOSE = "⟦", "⟧"
"""Around the tokens that are trained, in a sample."""
_SHOWN, _AROUND = 4, 250
"""Completions of a sample; characters at each end of a text."""
_QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Lengths:
    """Quantiles of a length in tokens."""

    least: int
    median: int
    p90: int
    p99: int
    most: int

    @staticmethod
    def of(values: Sequence[int] | np.ndarray) -> Lengths:
        """The quantiles of these lengths; zeros where there are none."""
        found = np.quantile(values, _QUANTILES, method="higher") if len(values) else np.zeros(len(_QUANTILES))
        return Lengths(*(int(value) for value in found))

    def text(self) -> str:
        return f"{self.least} least, {self.median} median, {self.p90} at 90%, {self.p99} at 99%, {self.most} most"


@dataclass(frozen=True)
class SplitReport:
    """One split: every row that was read is kept, or counted under the reason why not."""

    rows: int
    kept: int
    truncated: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    """By reason."""
    repeated: int = 0
    """Rows that a mixture reads again, in an epoch."""
    completions: int = 0
    pairs: int = 0
    labels: tuple[float, float] = (0.0, 0.0)
    """Desirable and undesirable completions, where the loss reads labels."""
    straddles: int = 0
    """Completions whose beginning shares a token with the prompt."""
    empties: int = 0
    """Completions without text: their terminator alone."""
    answers: int = 0
    """Prompts with an answer to compare with."""
    ties: int = 0
    """Pairs of identical completions."""
    clipped_pairs: int = 0
    """Pairs left out because both ends stand at the source's clip."""
    prompt_lengths: Lengths = Lengths(0, 0, 0, 0, 0)
    completion_lengths: Lengths = Lengths(0, 0, 0, 0, 0)
    trained: float = 0.0
    """Share of all tokens that are trained."""
    coverage: Coverage | None = None
    identification: Identification | None = None
    """Of the labels of pairs."""
    scores: Scores | None = None
    """Of the rewards of responses."""


@dataclass(frozen=True)
class DataReport:
    """What is known of the data before the first step."""

    sources: tuple[str, ...]
    """Each with its format."""
    signal: str
    splits: Mapping[str, SplitReport]
    wrong: tuple[str, ...] = ()
    """Rows that are wrong, named."""
    notes: tuple[str, ...] = ()
    tokenizer: str = ""
    template: str = ""
    stop_set: str = ""
    samples: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """For a terminal."""
        lines = [f"data: {source}" for source in self.sources] + [f"  {name}: {value}" for name, value in self._facts()]
        for name, split in self.splits.items():
            lines.append(f"  {name}: " + _sentence(split))
            lines += [f"    {what}: {value}" for what, value in _details(split)]
            lines += [f"    finding: {found.short}" for found in self.findings(name)]
        lines += [f"  wrong: {row}" for row in self.wrong] + [f"  note: {note}" for note in self.notes]
        for sample in self.samples:
            lines += ["  sample:", *("    " + line for line in sample.splitlines())]
        return "\n".join(lines)

    def markdown(self) -> str:
        """For a logger or a card."""
        columns = list(self.splits)
        table = {
            name: dict([("rows", _sentence(split)), *_details(split), *details(split.identification, split.scores, split.kept)])
            for name, split in self.splits.items()
        }
        facts = list(dict.fromkeys(fact for details in table.values() for fact in details))
        rows = [f"| {fact} | " + " | ".join(table[name].get(fact, "") for name in columns) + " |" for fact in facts]
        head = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        lists = [f"- {source}" for source in self.sources] + [f"- {name}: {value}" for name, value in self._facts()]
        lists += [f"- finding ({name}): {found.whole}." for name in columns for found in self.findings(name)]
        lists += [f"- wrong: {row}" for row in self.wrong] + [f"- note: {note}" for note in self.notes]
        samples = [line for sample in self.samples for line in ("", "```text", sample.replace("```", "'''"), "```")]
        return "\n".join([*lists, "", *head, *rows, *samples])

    def findings(self, split: str) -> tuple[Finding, ...]:
        """What is worth knowing of the rows that are trained on, or of the first split where none are."""
        if split != ("train" if "train" in self.splits else next(iter(self.splits))):
            return ()
        own = self.splits[split]
        return findings(self.signal, own.coverage, own.identification, own.scores, own.kept)

    def _facts(self) -> list[tuple[str, str]]:
        found = [
            ("signal", self.signal),
            ("tokenizer", self.tokenizer),
            ("chat template", self.template),
            ("stop set", self.stop_set),
        ]
        return [(name, value) for name, value in found if value]


def _sentence(split: SplitReport) -> str:
    parts = [f"{split.rows} rows", f"{split.kept} kept", f"{split.truncated} of them cut" if split.truncated else ""]
    parts += [f"{count} dropped ({reason})" for reason, count in split.dropped.items()]
    parts += [f"{split.repeated} repeats by the mixture" if split.repeated else ""]
    return ", ".join(part for part in parts if part)


def _details(split: SplitReport) -> list[tuple[str, str]]:
    good, bad = split.labels
    labels = f"{good:g} desirable, {bad:g} undesirable" if good + bad else 0
    counts = [("completions", split.completions), ("pairs", split.pairs), ("labels", labels)]
    oddities = [
        ("straddles", split.straddles, "completions whose beginning shares a token with the prompt, which has it"),
        ("empty", split.empties, "completions without text: their terminator alone"),
        ("ties", split.ties, "pairs of identical completions, probability 1/2"),
        ("clipped", split.clipped_pairs, "pairs with both ends at the source's clip, left out"),
    ]
    found = [(name, str(count)) for name, count in counts if count]
    if split.kept:
        found += [("prompt tokens", split.prompt_lengths.text())]
    if split.kept and split.completions:
        found += [
            ("completion tokens", split.completion_lengths.text()),
            ("trained", f"{split.trained:.1%} of all tokens"),
        ]
    if split.answers:
        found += [("with an answer", f"{split.answers / split.kept:.1%} of the prompts")]
    found += [(name, f"{count} {words}") for name, count, words in oddities if count]
    return found + (
        [("pair graph", _graph(split.coverage, split.kept))] if split.coverage and split.coverage.pairs else []
    )


def _graph(graph: Coverage, kept: int) -> str:
    return (
        f"{sample(graph.rows, kept)}{graph.prompts} prompts, {graph.responses_per_prompt:.1f} responses and "
        f"{graph.pairs_per_prompt:.1f} pairs each; "
        f"{graph.connected / max(graph.prompts, 1):.0%} of prompts connected"
    )


def sample_text(group: Group, tokenizer: Any) -> str:
    """A group as text, each stretch of trained tokens between marks; of long texts and many completions, a part."""
    lines = [f"{group.row}: {_shortened(tokenizer.decode(np.asarray(group.prompt_ids).tolist()))}"]
    for index, ids in enumerate(group.completions[:_SHOWN]):
        weight = np.ones(len(ids)) if group.token_weights is None else group.token_weights[index]
        lines.append(f"{_name(group, index)}: {_shortened(_marked(ids, weight > 0, tokenizer))}")
    if group.record is not None and group.record.answer is not None:
        lines.append(f"answer: {_shortened(group.record.answer)}")
    more = len(group.completions) - _SHOWN
    return "\n".join(lines + [f"and {more} more completions"] * (more > 0))


def _shortened(text: str) -> str:
    """Beginning and end of a text."""
    return text if len(text) <= 2 * _AROUND else f"{text[:_AROUND]} [...] {text[-_AROUND:]}"


def _name(group: Group, index: int) -> str:
    if len(group.pairs) == 1:
        return "chosen" if group.pairs[0].chosen == index else "rejected"
    if group.rewards is not None:
        return f"reward {group.rewards[index]:g}"
    return f"label {group.labels[index]:g}" if group.labels is not None else "completion"


def _marked(ids: np.ndarray, trained: np.ndarray, tokenizer: Any) -> str:
    edges = [0, *(1 + np.flatnonzero(trained[1:] != trained[:-1])).tolist(), len(ids)]
    parts = [(tokenizer.decode(ids[a:b].tolist()), trained[a]) for a, b in zip(edges, edges[1:], strict=False)]
    return "".join(f"{OPEN}{text}{CLOSE}" if inside else text for text, inside in parts)
