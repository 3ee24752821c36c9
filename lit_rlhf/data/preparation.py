"""One row from what was read to the group that is trained on, or to the reason why there is none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lit_rlhf.data.collation import Signal
from lit_rlhf.data.formats import Format, to_record
from lit_rlhf.data.messages import is_messages, is_trained
from lit_rlhf.data.overflow import Limits, fitted
from lit_rlhf.data.records import Group, Record, RowError
from lit_rlhf.data.signals import Rules, Selection, select
from lit_rlhf.data.tokenisation import Tokenisation, Tokenised, with_ties

Fate = Literal["kept", "left_out", "too_long", "wrong", "blank"]
Turns = Literal["all", "last"]


@dataclass(frozen=True)
class Outcome:
    """What became of a row."""

    row: str
    fate: Fate
    reason: str = ""
    """Why it is wrong, too long or left out; of a kept row, what was too long before it was cut."""
    key: str = ""
    """Of the prompt: rows with the same prompt stay on one side of a split. Empty for a wrong row."""
    group: Group | None = None
    cut: bool = False
    straddles: int = 0
    empties: int = 0
    ties: int = 0
    clipped_pairs: int = 0


@dataclass(frozen=True)
class Reading:
    """How rows become records.

    Args:
        format: their layout.
        as_messages: text becomes messages.
        turns: which turns of the assistant in a conversation are trained.
    """

    format: Format
    as_messages: bool = False
    turns: Turns = "all"

    def record(self, row: Mapping[str, Any], place: str) -> Record:
        """The record of a row under the formats' names, with all its turns.

        Raises:
            RowError: the row is not what the format says.
        """
        return to_record(row, self.format, place, self.as_messages)

    def trained(self, record: Record) -> Record:
        """The record with the turns that are trained as its completion."""
        return _last_turns(record) if self.turns == "last" else record


@dataclass(frozen=True)
class Preparation:
    """Rows to groups: read, select what the composition reads, tokenise, cut to length."""

    reading: Reading
    signal: Signal
    rules: Rules
    tokenisation: Tokenisation
    limits: Limits
    bos: int | None = None

    def __call__(self, rows: Iterable[tuple[str, Mapping[str, Any] | RowError | None]]) -> list[Outcome]:
        """The outcomes of (place, row) pairs; a row is an error where it could not be read, None where it is blank."""
        selected = [(place, *self._selected(place, row)) for place, row in rows]
        good = [
            selection.record for _, selection, _ in selected if isinstance(selection, Selection) and selection.record
        ]
        tokenised = iter(self.tokenisation(good))
        return [
            self._outcome(
                place,
                selection,
                key,
                next(tokenised) if isinstance(selection, Selection) and selection.record else None,
            )
            for place, selection, key in selected
        ]

    def _selected(
        self, place: str, row: Mapping[str, Any] | RowError | None
    ) -> tuple[Selection | RowError | None, str]:
        if row is None or isinstance(row, RowError):
            return row, ""
        try:
            record = self.reading.record(row, place)
            return select(self.reading.trained(record), self.signal, self.rules), prompt_key(record)
        except RowError as error:
            return error, ""

    def _outcome(
        self, place: str, selection: Selection | RowError | None, key: str, tokenised: Tokenised | RowError | None
    ) -> Outcome:
        if selection is None:
            return Outcome(place, "blank")
        for found in (selection, tokenised):
            if isinstance(found, RowError):
                return Outcome(place, "wrong", str(found))
        if tokenised is None:
            return Outcome(place, "left_out", selection.dropped, key, clipped_pairs=selection.clipped_pairs)
        fit = fitted(tokenised.group, self.limits, self.bos)
        if fit.group is None:
            return Outcome(place, "too_long", fit.why, key)
        group, ties = with_ties(fit.group)
        return Outcome(
            place,
            "kept",
            fit.why,
            key,
            group,
            fit.cut,
            tokenised.straddles,
            tokenised.empties,
            ties,
            selection.clipped_pairs,
        )


def prompt_key(record: Record) -> str:
    """A hash of the prompt, or of the text where there is none."""
    what = record.prompt if record.prompt is not None else [completion.text for completion in record.completions]
    return _hash(what)


def _hash(what: Any) -> str:
    return hashlib.blake2b(json.dumps(what, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def _last_turns(record: Record) -> Record:
    """The record with only the last trained turn of a conversation as its completion, where it has one completion."""
    if len(record.completions) != 1 or isinstance(record.completions[0].text, str):
        return record
    messages = (*record.prompt, *record.completions[0].text)
    last = max((index for index, message in enumerate(messages) if is_trained(message)), default=len(record.prompt))
    completion = dataclasses.replace(record.completions[0], text=messages[last:])
    return dataclasses.replace(record, prompt=messages[:last], completions=(completion,))


def same_prompt(rows: Iterable[Mapping[str, Any] | RowError | None]) -> list[list[int]]:
    """The indices of flat rows (a prompt, one response) that share a prompt, in the order of first appearance."""
    members: dict[Any, list[int]] = {}
    for index, row in enumerate(rows):
        members.setdefault(_hash(row["prompt"]) if _is_flat(row) else index, []).append(index)
    return list(members.values())


def _is_flat(row: Mapping[str, Any] | RowError | None) -> bool:
    if not isinstance(row, Mapping) or row.get("prompt") is None or row.get("responses") is not None:
        return False
    return isinstance(row.get("completion"), str) or is_messages(row.get("completion"))


def joined(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Flat rows of one prompt as one row with K responses."""
    fields = {"completion": "text", "reward": "reward", "label": "label"}
    responses = [{fields[name]: row[name] for name in fields if row.get(name) is not None} for row in rows]
    return {name: value for name, value in rows[0].items() if name not in fields} | {"responses": responses}
