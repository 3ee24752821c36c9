"""All mistakes of a configuration, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.errors import InputError


class ConfigErrors(InputError):
    """What is wrong with a configuration.

    Args:
        lines: `file:line: key: sentence` or `--key=value: sentence`, one for each mistake.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class Mistakes:
    """Mistakes in the order in which they are found, none twice."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, place: str, key: str, sentence: str) -> None:
        """Notes a mistake at `place`, which names the key already where it is an argument of the command line."""
        line = f"{place}: {sentence}" if place.startswith("-") or not key else f"{place}: {key}: {sentence}"
        if line not in self.lines:
            self.lines.append(line)

    def refuse(self) -> None:
        """Raises: ConfigErrors: there are mistakes."""
        if self.lines:
            raise ConfigErrors(self.lines)
