"""What an evaluation leaves behind: table, JSON, pictures and completions, in a folder that is whole or not there."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch

from lit_rlhf.commands.evaluation.measures import MEANINGS, Answers, measured
from lit_rlhf.commands.evaluation.plots import bars, frontier
from lit_rlhf.commands.evaluation.table import ranked, table
from lit_rlhf.components.saving import new_folder
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
    """Fills a new folder and gives what is printed.

    Raises:
        InputError: `out` has files.
    """
    found = evaluation.found
    text = "\n\n".join([_head(evaluation), table(found, evaluation.baseline), *evaluation.notes])
    with new_folder(out) as folder:
        (folder / "table.txt").write_text(text + "\n", encoding="utf-8")
        (folder / "evaluation.json").write_text(_json(evaluation, found), encoding="utf-8")
        with open(folder / "completions.jsonl", "w", encoding="utf-8") as file:
            for policy in ranked(found):
                _lines(policy, evaluation.answers[policy], file)
        bars(found, evaluation.baseline, folder / "measures.png")
        frontier(found, evaluation.baseline, evaluation.reward, folder / "frontier.png")
        files = ", ".join(sorted(path.name for path in folder.iterdir()))
    return f"{text}\n\n{out}: {files}"


def _head(evaluation: Evaluation) -> str:
    answers = evaluation.answers[evaluation.baseline]
    prompts = len(answers.responses) // answers.samples
    return (
        f"{prompts} prompts x {answers.samples} completions; {LEVEL:.0%} intervals over prompts; * is the baseline of gain, "
        "win rate and KL (nats)"
    )


def _json(evaluation: Evaluation, found: Mapping[str, Mapping[str, Estimate]]) -> str:
    tree = {
        "baseline": evaluation.baseline, "reward": evaluation.reward, "level": LEVEL, **evaluation.settings,
        "notes": list(evaluation.notes), "meanings": MEANINGS,
        "policies": {
            policy: {name: _known(dataclasses.asdict(estimate)) for name, estimate in found[policy].items()}
            for policy in ranked(found)
        },
    }
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _lines(policy: str, answers: Answers, file: TextIO) -> None:
    """One line per completion."""
    columns = {"reward": answers.reward, "kl": answers.kl, "win": answers.win}
    columns |= {f"reward/{name}": values for name, values in answers.parts.items()}
    numbers = {name: values.tolist() for name, values in columns.items() if isinstance(values, torch.Tensor)}
    for index, response in enumerate(answers.responses):
        line = {
            "policy": policy, "row": response.record.row, "sample": index % answers.samples,
            "prompt": response.record.prompt, "completion": response.text, "tokens": len(response.ids),
            "finished": response.finished, **_known({name: values[index] for name, values in numbers.items()}),
        }
        file.write(json.dumps(line, ensure_ascii=False, default=str, allow_nan=False) + "\n")


def _known(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}
