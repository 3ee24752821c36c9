"""The command line: a table of commands, dispatched before anything heavy is imported."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lit_rlhf import __version__
from lit_rlhf.cli.endings import ending
from lit_rlhf.errors import InputError


@dataclass(frozen=True)
class Command:
    """`python -m lit_rlhf NAME ARGUMENTS` calls `function` of `module` with the arguments."""

    module: str
    line: str
    function: str = "main"

    def __call__(self, arguments: Sequence[str]) -> None:
        getattr(importlib.import_module(self.module), self.function)(arguments)


COMMANDS = {
    "fit": Command("lit_rlhf.cli.running", "train; without --config the quick start", "fit"),
    "validate": Command("lit_rlhf.cli.running", "all val/ metrics of a checkpoint", "validate"),
    "test": Command("lit_rlhf.cli.running", "all test/ metrics of a checkpoint", "test"),
    "predict": Command("lit_rlhf.cli.running", "log-probs and scores of every completion as JSON lines", "predict"),
    "data": Command("lit_rlhf.commands.data", "what becomes of the rows: the data report, no weights read"),
    "export": Command("lit_rlhf.commands.export", "a run's model as a plain Hugging Face folder"),
    "doctor": Command("lit_rlhf.commands.doctor", "versions, devices, precision, what is optional and missing"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code: 0 done, 1 failed while running, 2 bad input, 130 and 143 interrupted."""
    name, *rest = sys.argv[1:] if arguments is None else arguments or ["--help"]
    return ending(lambda: dispatch(name, rest))


def dispatch(name: str, arguments: Sequence[str]) -> None:
    """Calls a command of the table.

    Raises:
        InputError: there is none of this name.
    """
    if name in ("-h", "--help", "help"):
        print(usage())
    elif name in ("-V", "--version"):
        print(f"lit_rlhf {__version__}")
    elif name in COMMANDS:
        COMMANDS[name](arguments)
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(COMMANDS)}"
        raise InputError(f"{name}: no such command; {meant}")


def build(arguments: Sequence[str]) -> tuple[Any, Any]:
    """The algorithm and the data module of a composition; no weights are read, no Trainer is made.

    Args:
        arguments: `--config C` and overrides, as for `fit`.

    Raises:
        InputError: the composition is wrong.
    """
    from lit_rlhf.cli.running import build

    return build(arguments)


def usage() -> str:
    """What `--help` prints."""
    width = max(map(len, COMMANDS))
    rows = [f"  {name:<{width}}  {command.line}" for name, command in COMMANDS.items()]
    return "\n".join([
        "python -m lit_rlhf COMMAND [--config FILE ...] [--key=value ...]", "", *rows, "",
        "  COMMAND --help explains one; fit --model.help CLASS and fit --model.loss.help CLASS explain a part.",
        "  python -m lit_rlhf fit, alone, is the quick start: half a minute, before and after in a small table.",
    ])
