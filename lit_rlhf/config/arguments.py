"""The arguments after a command: `--config FILE`, `--key=value`, `--key value`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lit_rlhf.config.mistakes import Mistakes


@dataclass(frozen=True)
class Override:
    """`--key=value` as it was given."""

    key: str
    value: str

    @property
    def text(self) -> str:
        return f"--{self.key}={self.value}"


def split(arguments: Sequence[str], mistakes: Mistakes) -> tuple[list[str], list[Override]]:
    """The names of the configuration files and the overrides, each in order."""
    files, overrides, waiting = [], [], list(arguments)
    while waiting:
        argument = waiting.pop(0)
        key, equals, value = argument.removeprefix("--").partition("=")
        if argument == "-c":
            key = "config"
        elif not argument.startswith("--") or not all(key.removesuffix("+").split(".")):
            mistakes.add(_quoted(argument), "", "is no argument; write --key=value, as in --model.loss.tau=0.2")
            continue
        if not equals and waiting and not waiting[0].startswith("--"):
            value = waiting.pop(0)
        if not value:
            empty = f"has no value; write --{key}=VALUE (null removes a part, '\"\"' is empty text)"
            mistakes.add(f"--{key}", "", empty)
        elif key == "config":
            files.append(value)
        else:
            overrides.append(Override(key, value))
    return files, overrides


def _quoted(argument: str) -> str:
    return argument if argument.startswith("-") else repr(argument)
