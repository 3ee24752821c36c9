"""`python -m lit_rlhf data --config C`: what becomes of the rows, before anything is trained. No weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lit_rlhf.data.planner import PlannedData


def main(arguments: Sequence[str]) -> None:
    """Prints the data report of a composition.

    Args:
        arguments: `--config C` and overrides, as for `fit`.

    Raises:
        InputError: the rows are missing, wrong or too long, or lack what the loss reads.
    """
    from lit_rlhf.cli import build

    algorithm, data = build(arguments)
    print(report(algorithm, data))


def report(algorithm: Any, data: PlannedData) -> str:
    """The data report of a data module for an algorithm, as text."""
    data.attach(algorithm)
    data.setup("fit")
    return data.report.text()
