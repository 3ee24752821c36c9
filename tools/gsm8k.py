"""pass@1 on GSM8K: of a policy, or of completions that are written down already.

    python tools/gsm8k.py FILE [FILE ...]                                   whether every gold answer can be read
    python tools/gsm8k.py FILE --policy NAME [--samples K --temperature T]  a run of ours, a folder or a hub name answers
    python tools/gsm8k.py FILE --completions ANSWERS                        JSON lines with "completion", a text or K of them

FILE has rows {"question", "answer"}, as GSM8K has (JSON lines, also compressed), or {"prompt", "answer"}. Lines of ANSWERS
belong to the row with their "question" or "prompt"; where they have neither, to the rows in order. Right is what
`lit_rlhf.rewards.maths.MathAnswer` rewards: the final answer, however it is written. A policy sees the question as the
user's message in its own chat template, or with --plain as it is. The exit status is 1 where a gold answer cannot be read.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lit_rlhf.data.modules import Files
from lit_rlhf.data.records import RowError
from lit_rlhf.data.sources import Source, tables
from lit_rlhf.errors import InputError
from lit_rlhf.functional.statistics import pass_at_k
from lit_rlhf.rewards.answers import stated_answer
from lit_rlhf.rewards.base import Response
from lit_rlhf.rewards.maths import MathAnswer
from lit_rlhf.types import PromptRecord

_NAMED = 5
"""Rows that are shown."""


def records(path: str, first: int | None = None) -> list[PromptRecord]:
    """The questions of a file with their gold answers, in order.

    Args:
        path: of the file.
        first: only so many rows.

    Raises:
        InputError: the file cannot be read, or a row lacks its question or its answer.
    """
    found = []
    for table in tables(Source(path, rows=first)):
        for number, stored in enumerate(table.data):
            try:
                row = table.row(stored)
            except RowError as error:
                raise InputError(f"{table.place(number)}: {error}") from error
            if row is None:
                continue
            if question(row) is None or row.get("answer") is None:
                raise InputError(f"{table.place(number)}: found {', '.join(row)}, expected question (or prompt) and answer")
            found.append(PromptRecord(question(row), str(row["answer"]), row=table.place(number)))
    if not found:
        raise InputError(f"{path}: there is no row")
    return found


def question(row: Mapping[str, Any]) -> str | None:
    """What is asked in a row; None where it does not say."""
    return row.get("question", row.get("prompt"))


def unread(gold: Sequence[PromptRecord]) -> list[PromptRecord]:
    """The rows whose gold answer is no number to the reward."""
    return [record for record in gold if stated_answer(record.answer).value is None]


def written(path: Path, gold: Sequence[PromptRecord]) -> list[Response]:
    """The completions of a file, row by row.

    Raises:
        InputError: a line is wrong, belongs to no row, or a row has none.
    """
    place = {record.prompt: row for row, record in enumerate(gold)}
    texts: list[list[str]] = [[] for _ in gold]
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        said = _completions(line, f"{path.name}:{number + 1}")
        row = number if question(said) is None else place.get(question(said))
        if row is None or row >= len(gold):
            raise InputError(f"{path.name}:{number + 1}: it answers none of the {len(gold)} questions")
        texts[row] += [said["completion"]] if isinstance(said["completion"], str) else said["completion"]
    without = next((record.row for record, own in zip(gold, texts, strict=True) if not own), None)
    if without is not None:
        raise InputError(f"{path.name}: no completion of {without}; every question needs one (--rows N scores the first N)")
    return [Response(gold[row], text, (), True, row) for row, own in enumerate(texts) for text in own]


def _completions(line: str, place: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
        several = [said["completion"]] if isinstance(said["completion"], str) else said["completion"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place}: expected an object with completion, a text or a list of them") from error
    if not several or not all(isinstance(text, str) for text in several):
        raise InputError(f"{place}: found {several!r}, expected a text or a list of them")
    return said


def sampled(path: str, given: argparse.Namespace) -> list[Response]:
    """A policy's completions of the questions of a file, row by row.

    Raises:
        InputError: the policy cannot be read, or a question leaves no room for an answer.
    """
    from lit_rlhf.commands.evaluation.answering import answered
    from lit_rlhf.commands.evaluation.policies import chosen_device, loaded, policy
    from lit_rlhf.commands.evaluation.questions import questions
    from lit_rlhf.sampling.native import NativeSampler

    model = policy(given.policy, given.dtype, "--policy")
    sampler = NativeSampler(given.max_new_tokens, given.temperature)
    columns = {} if question_column(path) == "prompt" else {"prompt": "question"}
    data = Files(path, validation=path, columns=columns, as_messages=not given.plain, batch_size=given.batch_size)
    prompts = questions(data, model, sampler, "val", given.rows)
    model = loaded(model, chosen_device(given.device))
    return list(answered(model, prompts, sampler, given.samples, MathAnswer(), None, token_budget=1).responses)


def question_column(path: str) -> str:
    """The column with the question."""
    return "question" if "question" in tables(Source(path))[0].columns() else "prompt"


def report(responses: Sequence[Response]) -> list[str]:
    """Counts and pass@1 with its standard error over questions; pass@K, where each has K > 1 completions."""
    scores = MathAnswer()(responses)
    group = torch.tensor([response.group for response in responses])
    drawn = torch.bincount(group)
    right = torch.zeros(len(drawn)).index_add(0, group, scores.total)
    each = pass_at_k(right, drawn, 1)
    error = float(each.std(correction=1)) / math.sqrt(len(each)) if len(each) > 1 else math.nan
    lines = [
        f"{len(drawn)} questions, {len(responses)} completions: {int(scores.total.sum())} right, "
        f"{float(scores.parts[0].values.mean()):.1%} with a final answer",
        f"pass@1: {float(each.mean()):.2%}, standard error {error:.2%}",
    ]
    most = int(drawn.min())
    lines += [f"pass@{most}: {float(pass_at_k(right, drawn, most).mean()):.2%}"] if most > 1 else []
    if lengths := [len(response.ids) for response in responses if response.ids]:
        cut = sum(not response.finished for response in responses) / len(responses)
        lines.append(f"length: {sum(lengths) / len(lengths):.1f} tokens, {cut:.1%} cut at the greatest length")
    return lines


def about(path: str, given: argparse.Namespace) -> tuple[list[str], int]:
    """What is printed of a file, and how many of its gold answers cannot be read.

    Raises:
        InputError: the file, the policy or the completions are wrong.
    """
    gold = records(path, given.rows)
    missing = unread(gold)
    share = 1 - len(missing) / len(gold)
    lines = [f"{path}: {len(gold)} rows, gold answer read in {len(gold) - len(missing)} ({share:.2%})"]
    lines += [f"  not read: {record.row}: {record.answer[-60:]!r}" for record in missing[:_NAMED]]
    if given.completions:
        lines += [f"  {line}" for line in report(written(given.completions, gold))]
    if given.policy:
        lines += [f"  {line}" for line in report(sampled(path, given))]
    return lines, len(missing)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.completions and len(given.files) > 1:
        parser.error("--completions: name the one FILE that they answer")
    unreadable = 0
    try:
        for path in given.files:
            lines, missing = about(path, given)
            print(*lines, sep="\n", flush=True)
            unreadable += missing
    except (OSError, InputError) as error:
        parser.exit(2, f"{error}\n")
    if unreadable:
        parser.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/gsm8k.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="rows with question (or prompt) and answer")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--policy", metavar="NAME", help="a run, a folder or a hub name")
    who.add_argument("--completions", metavar="ANSWERS", type=Path, help="JSON lines with completion")
    parser.add_argument("--rows", type=int, help="only the first so many (default: all)")
    parser.add_argument("--samples", type=int, default=1, help="completions of each question (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the likeliest token (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=320, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="questions that are answered together (default: %(default)s)")
    parser.add_argument("--plain", action="store_true", help="the question as it is, without a chat template")
    parser.add_argument("--dtype", default="float32", help="of the weights (default: %(default)s)")
    parser.add_argument("--device", help="(default: a GPU where there is one)")
    return parser


if __name__ == "__main__":
    main()
