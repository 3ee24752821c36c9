"""What an evaluation leaves behind: table, JSON, pictures and completions."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_rlhf.callbacks.files import replacing
from lit_rlhf.commands.evaluation.measures import MEANINGS, Answers, measured
from lit_rlhf.commands.evaluation.plots import bars, frontier
from lit_rlhf.commands.evaluation.table import Found, ranked, table
from lit_rlhf.functional.statistics import LEVEL, Estimate


@dataclass(frozen=True)
class Evaluation:
    """Every policy's answers to the same prompts."""

    answers: Mapping[str, Answers]
    baseline: str
    reward: str
    """Its name."""
    verifiable: bool
    settings: Mapping[str, Any]
    """What the numbers depend on."""
    notes: Sequence[str] = ()

    @property
    def found(self) -> dict[str, dict[str, Estimate]]:
        """Every measure of every policy."""
        base = self.answers[self.baseline]
        return {
            policy: measured(answers, None if policy == self.baseline else base, self.verifiable)
            for policy, answers in self.answers.items()
        }


def written(evaluation: Evaluation, out: Path) -> str:
    """Writes every file whole or not at all, and gives what is printed."""
    found = evaluation.found
    text = "\n\n".join([_head(evaluation), table(found, evaluation.baseline), *evaluation.notes])
    texts = {
        "table.txt": [text, "\n"], "evaluation.json": [_json(evaluation, found)],
        "completions.jsonl": _lines(evaluation, found),
    }
    for name, lines in texts.items():
        with replacing(out / name) as file:
            file.writelines(lines)
    drawn = {
        "measures.png": bars(found, evaluation.baseline),
        "frontier.png": frontier(found, evaluation.baseline, evaluation.reward),
    }
    for name, figure in drawn.items():
        if figure is not None:
            with replacing(out / name, "wb") as file:
                figure.savefig(file, format="png")
    files = ", ".join(sorted(path.name for path in out.iterdir()))
    return f"{text}\n\n{out}: {files}"


def _head(evaluation: Evaluation) -> str:
    answers = evaluation.answers[evaluation.baseline]
    prompts = len(answers.responses) // answers.samples
    return (
        f"{prompts} prompts x {answers.samples} completions; {LEVEL:.0%} intervals over prompts; * is the baseline of "
        "gain, win rate and KL (nats)"
    )


def _json(evaluation: Evaluation, found: Found) -> str:
    tree = {
        "baseline": evaluation.baseline, "reward": evaluation.reward, "level": LEVEL, **evaluation.settings,
        "notes": list(evaluation.notes), "meanings": MEANINGS,
        "policies": {
            policy: {name: _known(dataclasses.asdict(estimate)) for name, estimate in found[policy].items()}
            for policy in ranked(found)
        },
    }
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _lines(evaluation: Evaluation, found: Found) -> Iterator[str]:
    """One line per completion, policies in the order of the table."""
    for policy in ranked(found):
        answers = evaluation.answers[policy]
        columns = {"reward": answers.reward, "kl": answers.kl, "win": answers.win}
        columns |= {f"reward/{name}": values for name, values in answers.parts.items()}
        numbers = {name: values.tolist() for name, values in columns.items() if values is not None}
        for index, response in enumerate(answers.responses):
            line = {
                "policy": policy, "row": response.record.row, "sample": index % answers.samples,
                "prompt": response.record.prompt, "completion": response.text, "tokens": len(response.ids),
                "finished": response.finished, **_known({name: values[index] for name, values in numbers.items()}),
            }
            yield json.dumps(line, ensure_ascii=False, default=str, allow_nan=False) + "\n"


def _known(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
