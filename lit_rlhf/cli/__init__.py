"""The command line: a table of commands, dispatched before anything heavy is imported."""

from __future__ import annotations

import difflib
import importlib
import os
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
    function: str
    line: str
    own_help: bool = False
    """It answers `--help` itself; the others read a configuration."""

    def __call__(self, arguments: Sequence[str]) -> None:
        getattr(importlib.import_module(self.module), self.function)(arguments)


COMMANDS = {
    "fit": Command("lit_rlhf.cli.running", "fit", "trains; without --config the quick start"),
    "validate": Command("lit_rlhf.cli.running", "validate", "all val/ metrics of a checkpoint"),
    "test": Command("lit_rlhf.cli.running", "test", "all test/ metrics of a checkpoint"),
    "predict": Command("lit_rlhf.cli.running", "predict", "log-probs and scores of every completion, as JSON lines"),
    "data": Command("lit_rlhf.commands.data", "main", "what becomes of the rows: the data report; no weights are read"),
    "target": Command("lit_rlhf.commands.target", "main", "what a composition converges to, how surely and how fast", True),
    "evaluate": Command("lit_rlhf.commands.evaluate", "main", "policies side by side: reward, win rate, KL, length", True),
    "export": Command("lit_rlhf.commands.export", "main", "a run's model as a plain Hugging Face folder", True),
    "doctor": Command("lit_rlhf.commands.doctor", "main", "versions, devices, precision, what is optional", True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the command and what follows it; those of the process when None.

    Returns:
        The exit code: 0 done, 1 failed while running, 2 bad input, 130 and 143 interrupted.
    """
    given = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads are slow on cores that others use too
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # the installed command finds a user's own classes as `python -m` does
    return ending(lambda: dispatch(*(given or ["--help"])))


def dispatch(name: str, *arguments: str) -> None:
    """Calls a command of the table.

    Raises:
        InputError: there is none of this name.
    """
    if name in ("-h", "--help", "help"):
        print(usage())
    elif name in ("-V", "--version"):
        print(f"lit_rlhf {__version__}")
    elif name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there is {', '.join(COMMANDS)}"
        raise InputError(f"{name}: no such command; {meant}")
    elif {"-h", "--help"} & set(arguments) and not COMMANDS[name].own_help:
        print(usage_of(name))
    else:
        COMMANDS[name](arguments)


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
        "COMMAND --help says more. python -m lit_rlhf fit, alone, is the quick start: about half a minute.",
    ])


def usage_of(name: str) -> str:
    """What `COMMAND --help` prints for a command that reads a configuration."""
    trains = {
        "--check": "builds and checks everything, the data included; no weights are read, nothing is written",
        "--ckpt_path last": "continues the run; starts it where there is no checkpoint",
    }
    which = "last or best of this run, a file, RUN, RUN:last or RUN:best; without it the models as configured"
    reads = {"--ckpt_path WHICH": which}
    own = {"fit": trains, "data": {}}.get(name, reads)
    options = {
        "--config FILE": "merged in the order given; a bare name is looked up in ./configs, then in the package",
        "--key=value": "over the files, with dots for depth: --model.loss.tau=0.2 --trainer.max_steps=100",
        "--run=NAME": "the run writes runs/NAME; called after its config, and numbered, without it",
        **own,
        "--print_config": "prints the composed configuration",
        "--model.loss.help [CLASS]": "explains a class and its arguments; so does every key that takes a class",
        "--trainer.help": "the Trainer's arguments",
    }
    width = max(map(len, options))
    rows = [f"  {option:<{width}}  {meaning}" for option, meaning in options.items()]
    return "\n".join([f"python -m lit_rlhf {name}: {COMMANDS[name].line}", "", *rows])
