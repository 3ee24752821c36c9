"""How far two sides of a loss are apart, as a table, and whether that is what is said of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from our_losses import Case


@dataclass(frozen=True)
class Difference:
    """Relative differences of one loss."""

    value: float
    gradient: float
    accumulated: float
    """Of the gradient, TRL in two micro-batches."""


def table(results: Iterable[tuple[Case, Difference]]) -> str:
    """Markdown, the notes numbered below it."""
    notes: list[str] = []
    lines = ["| loss | TRL | value | gradient | gradient, two micro-batches |", "|---|---|---|---|---|"]
    for case, found in results:
        if case.note:
            notes.append(case.note)
        mark = f" ({len(notes)})" if case.note else ""
        numbers = " | ".join(f"{number:.0e}" for number in (found.value, found.gradient, found.accumulated))
        lines.append(f"| {case.name}{mark} | {asked(case)} | {numbers} |")
    return "\n".join([*lines, "", *(f"{place}. {note}" for place, note in enumerate(notes, 1))])


def asked(case: Case) -> str:
    """TRL's options for the loss."""
    loss = case.options.get("loss_type", "")
    name = "+".join(loss) if isinstance(loss, list) else loss
    others = [f"`{key}={value}`" for key, value in case.options.items() if key not in ("beta", "loss_type")]
    return " ".join([f"{case.trainer}Trainer", *([name] if name else []), *others])


def wrong(results: Iterable[tuple[Case, Difference]]) -> list[str]:
    """Sentences on losses that are not what is said of them."""
    found = []
    for case, seen in results:
        same = max(seen.value, seen.gradient) <= case.tolerance
        if same and case.note:
            found.append(f"{case.name}: said to differ, and does not: {case.note}")
        if not same and not case.note:
            found.append(f"{case.name}: differs by {seen.value:.1e} and in the gradient by {seen.gradient:.1e}")
    return found
