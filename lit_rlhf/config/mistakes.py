"""All mistakes of a configuration, one line each."""

from __future__ import annotations

from collections.abc import Sequence

from lit_rlhf.errors import InputError


_LONGEST = 80


def written(path: str) -> str:
    """A key as it may be written: without `init_args` and `class_path`."""
    return ".".join(name for name in path.split(".") if name not in ("init_args", "class_path"))


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
        """Notes a mistake of a key at a place. An argument of the command line names its own key already."""
        own = written(place.partition("=")[0].lstrip("-").removesuffix("+")) if place.startswith("-") else ""
        shown = place if len(place) <= _LONGEST else place[: _LONGEST - 3] + "..."
        line = f"{shown}: {sentence}" if not key or f"{own}.".startswith(f"{key}.") else f"{shown}: {key}: {sentence}"
        line = line.replace("\n", " ")
        if line not in self.lines:
            self.lines.append(line)

    def refuse(self) -> None:
        """Raises: ConfigErrors: there are mistakes."""
        if self.lines:
            raise ConfigErrors(self.lines)
