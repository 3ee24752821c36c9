"""Arithmetic that a small model can learn from nothing: problems by level, some of them demonstrated, some held out.

    python tools/make_arithmetic.py OUT [--digits 2] [--levels 1 2 5] [--train 2000] [--validation 100] [--demonstrated 0.25]

OUT gets train.jsonl and validation.jsonl, {"prompt": "17+5=", "answer": "22", "level": 3}, and demonstrations.jsonl,
{"prompt": "17+5-9=", "completion": "22-9=13", "level": 6}, of a part of the training problems: two steps are worked one after the
other. Imitating those makes a start; the verifiable reward of the answer (`lit_rlhf.rewards.maths.MathAnswer`) does the rest.

    level 1  sums of two numbers of one digit        level 2  their differences
    level 3  sums of two numbers of up to --digits   level 4  their differences
    level 5  two steps with numbers of one digit     level 6  two steps with numbers of up to --digits

No number is negative on the way. Problems that differ by the order of their terms alone are on the same side. A level with
fewer problems than asked for gives what it has. Half a million weights learn the default within minutes of one processor core; levels
3, 4 and 6 take more of both. All is written in digits and signs, so a tokenizer of single bytes will do:

    python tools/make_start.py START OUT/train.jsonl --vocabulary 257 --width 128 --layers 2 --longest 64
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEVELS = (1, 2, 3, 4, 5, 6)
PATIENCE = 2000
"""A level is used up after so many draws in a row that are known or on the other side."""


@dataclass(frozen=True)
class Problem:
    """Signed terms, the first positive."""

    terms: tuple[int, ...]
    level: int

    @property
    def partial(self) -> tuple[int, ...]:
        """The sums of the first one, two, ... terms."""
        return tuple(sum(self.terms[: end + 1]) for end in range(len(self.terms)))

    @property
    def prompt(self) -> str:
        return _written(self.terms) + "="

    @property
    def answer(self) -> str:
        return str(self.partial[-1])

    @property
    def worked(self) -> str:
        """Every step after the first term's, as it is left to do: `22-9=13` of `17+5-9=`."""
        steps = [_written((self.partial[end], *self.terms[end + 1 :])) for end in range(1, len(self.terms))]
        return "=".join(steps)

    def held_out(self, share: float, seed: int) -> bool:
        """By a hash of its terms in any order."""
        told = f"{seed}:{sorted(self.terms)}".encode()
        return int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") < share * 2**64


def _written(terms: Sequence[int]) -> str:
    return str(terms[0]) + "".join(f"{term:+d}" for term in terms[1:])


def drawn(level: int, digits: int, generator: random.Random) -> Problem:
    """A problem of a level whose partial sums are not negative."""
    largest = 10 ** (1 if level in (1, 2, 5) else digits) - 1
    while True:
        signs = [1, *(_sign(level, generator) for _ in range(2 if level > 4 else 1))]
        terms = tuple(sign * generator.randint(int(sign < 0), largest) for sign in signs)
        problem = Problem(terms, level)
        if min(problem.partial) >= 0:
            return problem


def _sign(level: int, generator: random.Random) -> int:
    return generator.choice((1, -1)) if level > 4 else -1 if level in (2, 4) else 1


def several(n: int, wanted: Callable[[Problem], bool], level: int, digits: int, generator: random.Random) -> Iterator[Problem]:
    """Up to n problems of a level, until the level seems to have no more."""
    idle = 0
    while n > 0 and idle < PATIENCE:
        idle += 1
        if wanted(problem := drawn(level, digits, generator)):
            idle, n = 0, n - 1
            yield problem


def curriculum(
    levels: Sequence[int], digits: int, train: int, validation: int, share: float, seed: int
) -> tuple[list[Problem], list[Problem]]:
    """Training and validation problems, level after level, each once.

    Args:
        levels: some of 1 to 6.
        digits: most digits of the numbers of levels 3, 4 and 6.
        train: most training problems of a level.
        validation: most validation problems of a level.
        share: of all problems that are held out, whether they are asked for or not.
        seed: of all choices.
    """
    sides: tuple[list[Problem], list[Problem]] = ([], [])
    for side, n in zip((0, 1), (train, validation), strict=True):
        seen: set[str] = set()

        def wanted(problem: Problem, seen: set[str] = seen, out: bool = bool(side)) -> bool:
            new = problem.prompt not in seen and problem.held_out(share, seed) == out
            return new and not seen.add(problem.prompt)

        for level in levels:
            generator = random.Random(f"{seed}:{side}:{level}")
            sides[side].extend(several(n, wanted, level, digits, generator))
    return sides


def demonstrated(problems: Sequence[Problem], share: float, seed: int) -> list[Problem]:
    """A share of every level, chosen by chance, in order."""
    generator, chosen = random.Random(f"{seed}:demonstrated"), []
    for level in sorted({problem.level for problem in problems}):
        own = [problem for problem in problems if problem.level == level]
        places = sorted(generator.sample(range(len(own)), round(share * len(own))))
        chosen += [own[place] for place in places]
    return chosen


def write(out: Path, files: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """The folder, whole or not at all.

    Raises:
        FileExistsError: it is there and has files.
    """
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out}: has files; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / out.name
        made.mkdir()
        for name, rows in files.items():
            (made / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.replace(made, out)


def rows(problems: Sequence[Problem], field: str, said: Callable[[Problem], str]) -> list[dict[str, Any]]:
    """The lines of a file."""
    return [{"prompt": problem.prompt, field: said(problem), "level": problem.level} for problem in problems]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    given = parser.parse_args(arguments)
    for name, wrong, expected in (
        ("digits", given.digits < 1, "1 or more"),
        ("train", given.train < 1, "1 or more"),
        ("validation", given.validation < 1, "1 or more"),
        ("held_out", not 0 < given.held_out < 1, "a share between 0 and 1"),
        ("demonstrated", not 0 <= given.demonstrated <= 1, "a share from 0 to 1"),
    ):
        if wrong:
            parser.error(f"--{name.replace('_', '-')} {getattr(given, name)}: expected {expected}")
    levels = sorted(set(given.levels))
    train, validation = curriculum(levels, given.digits, given.train, given.validation, given.held_out, given.seed)
    shown = demonstrated(train, given.demonstrated, given.seed)
    files = {
        "train.jsonl": rows(train, "answer", lambda problem: problem.answer),
        "validation.jsonl": rows(validation, "answer", lambda problem: problem.answer),
        "demonstrations.jsonl": rows(shown, "completion", lambda problem: problem.worked),
    }
    try:
        write(given.out, files)
    except OSError as error:
        parser.exit(2, f"{error}\n")
    counts = ", ".join(f"{sum(problem.level == level for problem in train)} of level {level}" for level in levels)
    print(
        f"{given.out}: {len(train)} problems to train on ({counts}), {len(shown)} of them demonstrated; {len(validation)} held out"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python tools/make_arithmetic.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    for name, default, words in (
        ("digits", 2, "most digits of a number"),
        ("train", 2000, "training problems of a level, at most"),
        ("validation", 100, "validation problems of a level, at most"),
        ("held-out", 0.1, "share of all problems that no training sees"),
        ("demonstrated", 0.25, "share of the training problems"),
        ("seed", 0, "of all choices"),
    ):
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{words} (default: %(default)s)")
    parser.add_argument("--levels", type=int, nargs="+", choices=LEVELS, default=(1, 2, 5), help="(default: 1 2 5)")
    return parser


if __name__ == "__main__":
    main()
