"""The layouts of rows, told apart by their columns, and how each becomes a `Record`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from lit_rlhf.data.columns import COLUMNS, kind, shortened
from lit_rlhf.data.messages import after_prompt, as_text, conversation, is_messages, is_trained, split
from lit_rlhf.data.records import Completion, Preference, Record, RowError, Text
from lit_rlhf.errors import InputError

Format = Literal["preference", "scored", "unpaired", "completion", "messages", "text", "prompts"]
FORMATS: tuple[Format, ...] = get_args(Format)
NEEDS: dict[Format, tuple[tuple[str, ...], ...]] = {
    "preference": (("chosen", "rejected"),),
    "scored": (("prompt", "responses"), ("completion", "reward")),
    "unpaired": (("completion", "label"),),
    "completion": (("prompt", "completion"),),
    "messages": (("messages",),),
    "text": (("text",),),
    "prompts": (("prompt",),),
}
"""The columns that make a format, in the order in which formats are tried: the first that fits is taken."""
_HINTS = {
    "prompt": ("question", "instruction", "query", "input", "problem"),
    "completion": ("answer", "output", "response", "solution"),
    "messages": ("conversations", "conversation"),
}
_ANSWERED = {"prompt": _HINTS["prompt"], "answer": ("solution", "target"), "messages": _HINTS["messages"]}


def detect(columns: Iterable[str], prompts: bool = False) -> Format:
    """The format of rows with these columns. The order of the columns does not matter.

    Args:
        prompts: whether prompts alone are looked for, with the answer that a reward compares with.

    Raises:
        InputError: no format has them; names what each needs, and a mapping that looks likely.
    """
    names = set(columns)
    for name, alternatives in NEEDS.items():
        if any(names >= set(needed) for needed in alternatives):
            return name
    formats = "; ".join(f"{name}: {' or '.join(' + '.join(needed) for needed in NEEDS[name])}" for name in FORMATS)
    raise InputError(
        f"data: the columns {', '.join(sorted(names))} are no known format{_hint(names, prompts)}. The formats are {formats}"
    )


def _hint(names: set[str], prompts: bool) -> str:
    wanted = _ANSWERED if prompts else _HINTS
    likely = {column: next((name for name in others if name in names), None) for column, others in wanted.items()}
    found = ", ".join(f"{column}: {name}" for column, name in likely.items() if name and column not in names)
    return f"; rename them by data.columns, perhaps {{{found}}}" if found else "; rename them by data.columns"


def to_record(row: Mapping[str, Any], format: Format, place: str, as_messages: bool = False) -> Record:
    """One row under the formats' names as a record.

    Args:
        row: its columns (see `columns.renamed`).
        format: its layout.
        place: file:row.
        as_messages: text becomes messages: a prompt the user's, a completion the assistant's, a transcript its turns.

    Raises:
        RowError: names the column, what was found and what was expected.
    """
    if missing := [name for name in _required(row, format) if row.get(name) is None]:
        found = ", ".join(name for name, value in row.items() if value is not None) or "none"
        raise RowError(f"column {missing[0]}: missing, expected by the format {format}; the row has {found}")
    prompt, completions, preferences = _READ[format](row)
    if as_messages:
        prompt, completions = _chat(prompt, completions)
    weight = number(row, "weight")
    if weight is not None and weight < 0:
        raise RowError(f"column weight: found {weight}, expected 0 or more")
    answer = row.get("answer")
    return Record(
        prompt,
        completions,
        preferences,
        1.0 if weight is None else weight,
        None if answer is None else str(answer),
        place,
        {name: value for name, value in row.items() if name not in COLUMNS},
    )


def _required(row: Mapping[str, Any], format: Format) -> tuple[str, ...]:
    alternatives = NEEDS[format]
    return next(
        (needed for needed in alternatives if all(row.get(name) is not None for name in needed)), alternatives[-1]
    )


def number(row: Mapping[str, Any], column: str) -> float | None:
    """A finite number, also one that is written as text; None where there is nothing.

    Raises:
        RowError: something else.
    """
    return None if row.get(column) is None else _number(row[column], column)


def _number(value: Any, column: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise RowError(f"column {column}: found {kind(value)}, expected a number") from None
    if not math.isfinite(found):
        raise RowError(f"column {column}: found {found}, expected a finite number")
    return found


def _label(value: Any, column: str) -> float:
    labels = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}
    if (found := labels.get(str(value).strip().lower())) is None:
        raise RowError(f"column {column}: found {kind(value)}, expected true or false")
    return found


# ---- the formats

_Read = tuple[Text | None, tuple[Completion, ...], tuple[Preference, ...]]


def _preference(row: Mapping[str, Any]) -> _Read:
    (prompt, chosen), (other, rejected) = (_parts(row, row[column], column) for column in ("chosen", "rejected"))
    if prompt != other:
        raise RowError(f"columns chosen and rejected answer two different prompts, apart {_where_apart(prompt, other)}")
    probability = number(row, "probability")
    if probability is None:
        probability = 1.0
    if not 0 <= probability <= 1:
        raise RowError(f"column probability: found {probability}, expected a number from 0 to 1")
    rewards, gap = (number(row, "reward_chosen"), number(row, "reward_rejected")), number(row, "gap")
    good = float(probability >= 0.5)
    ends = Completion(chosen, rewards[0], good), Completion(rejected, rewards[1], 1.0 - good)
    return prompt, ends, (Preference(0, 1, probability, gap),)


def _scored(row: Mapping[str, Any]) -> _Read:
    texts, rewards, labels = _responses(row) if row.get("responses") is not None else _lists(row)
    if not texts:
        raise RowError("no response: the list is empty")
    parts = [_parts(row, text, column) for text, column in texts]
    if any(prompt != parts[0][0] for prompt, _ in parts):
        raise RowError(f"column {texts[0][1]}: the responses answer different prompts")
    completions = zip((completion for _, completion in parts), rewards, labels, strict=True)
    return parts[0][0], tuple(Completion(*completion) for completion in completions), ()


def _responses(row: Mapping[str, Any]) -> tuple[list[tuple[Any, str]], list[float | None], list[float | None]]:
    """The nested layout: a list of objects with text, and reward or label or both."""
    elements = row["responses"]
    if not isinstance(elements, (list, tuple)) or not all(isinstance(element, (dict, str)) for element in elements):
        raise RowError(f"column responses: found {kind(elements)}, expected a list of objects with text and reward")
    if all(isinstance(element, str) for element in elements):
        return _lists({**row, "completion": elements})
    texts, rewards, labels = [], [], []
    for index, element in enumerate(elements):
        place, name = (
            f"responses[{index}]",
            next((n for n in ("text", "completion", "content", "messages") if n in element), "text"),
        )
        if element.get(name) is None:
            raise RowError(f"column {place}.text: missing; found {kind(element)}")
        texts.append((element[name], f"{place}.{name}"))
        rewards.append(
            next((_number(element[n], f"{place}.{n}") for n in ("reward", "score") if element.get(n) is not None), None)
        )
        labels.append(None if element.get("label") is None else _label(element["label"], f"{place}.label"))
    return texts, rewards, labels


def _lists(row: Mapping[str, Any]) -> tuple[list[tuple[Any, str]], list[float | None], list[float | None]]:
    """A completion with its reward, or K of them with K rewards."""
    completion = row["completion"]
    if not isinstance(completion, (list, tuple)) or is_messages(completion):
        label = None if row.get("label") is None else _label(row["label"], "label")
        return [(completion, "completion")], [number(row, "reward")], [label]
    texts = [(text, f"completion[{index}]") for index, text in enumerate(completion)]
    return texts, _aligned(row, "reward", len(texts), _number), _aligned(row, "label", len(texts), _label)


def _aligned(row: Mapping[str, Any], column: str, n: int, read: Callable[[Any, str], float]) -> list[float | None]:
    values = row.get(column)
    if values is None:
        return [None] * n
    if not isinstance(values, (list, tuple)) or len(values) != n:
        raise RowError(f"column {column}: found {kind(values)}, expected a list of {n}, one for each response")
    return [read(value, f"{column}[{index}]") for index, value in enumerate(values)]


def _unpaired(row: Mapping[str, Any]) -> _Read:
    prompt, completion = _parts(row, row["completion"], "completion")
    return prompt, (Completion(completion, label=_label(row["label"], "label")),), ()


def _completion(row: Mapping[str, Any]) -> _Read:
    prompt, completion = _parts(row, row["completion"], "completion")
    return prompt, (Completion(completion),), ()


def _messages(row: Mapping[str, Any]) -> _Read:
    messages = as_text(row["messages"], "messages")
    if isinstance(messages, str):
        raise RowError(f"column messages: found {kind(messages)}, expected a list of messages with role and content")
    first = next((index for index, message in enumerate(messages) if is_trained(message)), None)
    if first is None:
        raise RowError(
            "column messages: there is no turn of the assistant with a weight above 0; where the policy is to answer the "
            "conversations, write data.columns={prompt: messages}"
        )
    return messages[:first], (Completion(messages[first:]),), ()


def _text(row: Mapping[str, Any]) -> _Read:
    if not isinstance(row["text"], str):
        raise RowError(f"column text: found {kind(row['text'])}, expected text")
    return None, (Completion(row["text"] if row["text"].strip() else ""),), ()


def _prompts(row: Mapping[str, Any]) -> _Read:
    return as_text(row["prompt"], "prompt"), (), ()


_READ: dict[Format, Callable[[Mapping[str, Any]], _Read]] = {
    "preference": _preference,
    "scored": _scored,
    "unpaired": _unpaired,
    "completion": _completion,
    "messages": _messages,
    "text": _text,
    "prompts": _prompts,
}


def _parts(row: Mapping[str, Any], value: Any, column: str) -> tuple[Text, Text]:
    """Prompt and response; without a column prompt, the response is a whole conversation or transcript."""
    response = as_text(value, column)
    return (
        split(response, column)
        if row.get("prompt") is None
        else after_prompt(as_text(row["prompt"], "prompt"), response, column)
    )


def _where_apart(prompt: Text, other: Text) -> str:
    if not (isinstance(prompt, str) and isinstance(other, str)):
        place = next(
            (i for i, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b), min(len(prompt), len(other))
        )
        return f"from message {place} on"
    at = next((i for i, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b), min(len(prompt), len(other)))
    return f"from character {at} on: {shortened(prompt[at:], 24)!r} and {shortened(other[at:], 24)!r}"


def _chat(prompt: Text | None, completions: tuple[Completion, ...]) -> tuple[Text | None, tuple[Completion, ...]]:
    if not isinstance(prompt, str):
        return prompt, completions
    replies = tuple(
        Completion(({"role": "assistant", "content": c.text.strip()},), c.reward, c.label, c.clipped)
        for c in completions
    )
    return conversation(prompt), replies
