"""`fit`, `validate`, `test` and `predict` up to the point where Lightning is needed: files, overrides, the run."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from lit_rlhf.cli.agreement import agreed
from lit_rlhf.cli.directories import config_of
from lit_rlhf.cli.ranks import is_first
from lit_rlhf.cli.runs import Request, decide, release
from lit_rlhf.config import Composed, compose

QUICKSTART = Path(__file__).parents[1] / "assets" / "quickstart.yaml"
QUICKSTART_IS = "soft-label PRA on the built-in task (lit_rlhf/assets/quickstart.yaml)"
FLAGS = ("--check", "--print_config")
"""Arguments without a value."""


def command(name: str, arguments: Sequence[str]) -> None:
    """Runs one of the Trainer's methods.

    Raises:
        InputError: the composition, the run's name or the checkpoint is wrong.
        RunFailed: a failure that its sentence explains.
    """
    flags, kept = [], []
    for word in arguments:
        (flags if word in FLAGS else kept).append(word)
    asked = next((word for word in kept if word.partition("=")[0].endswith(".help")), None)
    if asked is not None:
        from lit_rlhf.cli.explaining import explain

        return explain(name, kept, asked, QUICKSTART)
    composed = compose(kept, default=config_of(given(kept, "run"), given(kept, "ckpt_path")) or QUICKSTART)
    _say(*composed.warnings, to=sys.stderr)
    if "--print_config" in flags:
        return print(printed(composed), end="")
    if composed.files == (QUICKSTART,):
        _say(f"The quick start: {QUICKSTART_IS}; --config NAME is another run")
    asked_for = composed.tree.get("ckpt_path")
    request = Request(name, tuple(arguments), composed.run, composed.files, asked_for, composed.place)
    return _check(composed, request) if "--check" in flags else _run(composed, request)


def _check(composed: Composed, request: Request) -> None:
    run = decide(request)
    from lit_rlhf.cli.trainer import check_all

    check_all(composed, run)


def _run(composed: Composed, request: Request) -> None:
    run = agreed(request)
    try:
        from lit_rlhf.cli.trainer import train

        train(request.command, composed, run, (request.command, *request.arguments))
    finally:
        if is_first():
            release(run)


fit, validate, test, predict = (functools.partial(command, name) for name in ("fit", "validate", "test", "predict"))


def given(arguments: Sequence[str], key: str) -> str | None:
    """The value of `--key=value` or `--key value`, the last one; None where it is not among the arguments."""
    found = None
    for word, following in itertools.zip_longest(arguments, arguments[1:]):
        name, equals, value = word.partition("=")
        if name == f"--{key}":
            found = value if equals else following
    return found


def printed(composed: Composed) -> str:
    """A composition as a configuration file."""
    head: dict[str, Any] = {} if composed.run is None else {"run": composed.run}
    return yaml.safe_dump(head | composed.tree, sort_keys=False, allow_unicode=True)


def build(arguments: Sequence[str]) -> tuple[Any, Any]:
    """The algorithm and the data module; see `lit_rlhf.cli.build`."""
    composed = compose(arguments)
    from lit_rlhf.cli.trainer import parts

    return parts(composed)


def _say(*lines: str, to: IO[str] | None = None) -> None:
    if is_first() and any(lines):
        print("\n".join(lines), file=to, flush=True)
