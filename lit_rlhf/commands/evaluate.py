"""`python -m lit_rlhf evaluate POLICY ...`: policies and checkpoints side by side on one set of prompts."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lit_rlhf.commands.evaluation.asking import Asked, asked, usage
from lit_rlhf.errors import InputError

FOLDER = Path("runs") / "evaluations"


def main(arguments: Sequence[str]) -> None:
    """Prints the table and writes a folder with it, `evaluation.json`, pictures and all completions.

    Args:
        arguments: policies and options; see `evaluation.asking.OPTIONS`.

    Raises:
        InputError: a policy, the prompts, the reward or an option is wrong; nothing has been sampled then.
    """
    if {"-h", "--help"} & set(arguments):
        return print(usage())
    given = asked(arguments)
    from lit_rlhf.commands.evaluation.parts import composition, default_name, made, narrowed, start_of

    out = _folder(given.out, default_name(given))
    composed = composition(given)
    baseline = given.baseline or start_of(composed) or given.policies[0]
    parts = made(narrowed(composed, given.prompts))
    print(*composed.warnings, sep="\n", end="\n" if composed.warnings else "", file=sys.stderr)
    from lit_rlhf.commands.evaluation.report import written
    from lit_rlhf.commands.evaluation.running import evaluation

    start = time.perf_counter()
    print(written(evaluation(given, parts, baseline, out), out))
    print(f"{time.perf_counter() - start:.0f} s")


def _folder(out: str | None, name: str) -> Path:
    """The folder that is asked for, or the first of `name`, `name-2`, ... that is not there.

    Raises:
        InputError: it has files.
    """
    if out is None:
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        return next(folder for one in names if not (folder := FOLDER / one).exists())
    folder = Path(out)
    if folder.is_file() or folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"--out={out}: exists already; name a new folder, or remove this one")
    return folder
