"""Conversations: their canonical form, transcripts, and where a prompt ends and its completion begins."""

from __future__ import annotations

import re
from typing import Any

from lit_rlhf.data.columns import kind, shortened
from lit_rlhf.data.records import Message, RowError, Text

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
"""How transcripts begin a turn."""
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}
"""Other words for a role."""

_TURN = re.compile(f"({HUMAN}|{ASSISTANT})")


def is_messages(value: Any) -> bool:
    """Whether a value is a list of messages: objects with a role."""
    return (
        isinstance(value, (list, tuple))
        and len(value) > 0
        and all(isinstance(m, dict) and ("role" in m or "from" in m) for m in value)
    )


def as_text(value: Any, column: str, empty: bool = True) -> Text:
    """A text or a conversation in its canonical form; a text of white space alone is empty.

    Raises:
        RowError: neither text nor messages.
    """
    if isinstance(value, str) and (empty or value.strip()):
        return value if value.strip() else ""
    if is_messages(value):
        return tuple(_message(message, f"{column}[{index}]") for index, message in enumerate(value))
    raise RowError(f"column {column}: found {kind(value)}, expected text or a list of messages with role and content")


def _message(message: Message, place: str) -> Message:
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str):
        raise RowError(f"column {place}.role: found {kind(role)}, expected a word such as user or assistant")
    if content is None and not message.get("tool_calls"):
        raise RowError(f"column {place}.content: found nothing, expected text")
    if content is not None and not isinstance(content, (str, list)):
        raise RowError(f"column {place}.content: found {kind(content)}, expected text")
    if isinstance(content, str) and not content.strip():
        content = ""
    rest = {
        key: value
        for key, value in message.items()
        if key not in ("role", "from", "content", "value") and value is not None
    }
    return {"role": ROLES.get(role, role), "content": content} | rest


def is_trained(message: Message) -> bool:
    """Whether a model learns to write this message: the assistant's turns, unless they have weight 0."""
    return message["role"] == "assistant" and float(message.get("weight", 1.0)) > 0


def split(whole: Text, column: str) -> tuple[Text, Text]:
    """Prompt and completion of a whole conversation or transcript: the completion is the last assistant turn.

    Raises:
        RowError: the last turn is not the assistant's.
    """
    if isinstance(whole, str):
        return _split_transcript(whole, column)
    if whole[-1]["role"] != "assistant":
        raise RowError(
            f"column {column}: the last message is of the {whole[-1]['role']}, expected the assistant's response"
        )
    if len(whole) == 1:
        raise RowError(
            f"column {column}: found the assistant's response alone, expected the prompt before it, or a column prompt"
        )
    return whole[:-1], whole[-1:]


def _split_transcript(whole: str, column: str) -> tuple[str, str]:
    turns = [(match.group(), match.end()) for match in _TURN.finditer(whole)]
    if not turns or turns[-1][0] != ASSISTANT:
        raise RowError(
            f"column {column}: the last turn of {shortened(whole)!r} is not the assistant's; without a column prompt, "
            f"expected messages or a transcript whose last turn begins with {ASSISTANT!r}"
        )
    end = turns[-1][1]
    return whole[:end], whole[end:] if whole[end:].strip() else ""


def after_prompt(prompt: Text, response: Text, column: str) -> tuple[Text, Text]:
    """Prompt and response as one kind, messages where either has them; a response that repeats the prompt is cut there.

    Raises:
        RowError: the response repeats another prompt.
    """
    if isinstance(prompt, str) and isinstance(response, str):
        return prompt, response
    if isinstance(response, str):
        return prompt, ({"role": "assistant", "content": response},)
    if isinstance(prompt, str):
        return _mixed(prompt, response, column)
    continued = response[len(prompt) :] if response[: len(prompt)] == prompt else response
    if not continued or continued[0]["role"] != "assistant":
        raise RowError(
            f"column {column}: its messages neither begin with those of column prompt nor with the assistant's response"
        )
    return prompt, continued


def _mixed(prompt: str, response: tuple[Message, ...], column: str) -> tuple[Text, Text]:
    """A prompt of text with the messages that answer it, or a conversation that repeats it as the user's message."""
    if response[0]["role"] == "assistant":
        return ({"role": "user", "content": prompt},), response
    users = [message["content"] for message in response if message["role"] == "user"]
    whole, last = split(response, column)
    if prompt.strip() not in [content.strip() for content in users if isinstance(content, str)]:
        found = shortened(str(users[-1])) if users else "nothing"
        raise RowError(
            f"column {column}: the user says {found!r}, and column prompt is {shortened(prompt)!r}: "
            "two different prompts"
        )
    return whole, last


def conversation(transcript: str) -> tuple[Message, ...]:
    """The turns of a transcript as messages; a text without turns is the user's."""
    parts = _TURN.split(transcript)
    if len(parts) == 1:
        return ({"role": "user", "content": transcript},)
    opening = ({"role": "system", "content": parts[0].strip()},) if parts[0].strip() else ()
    roles = {HUMAN: "user", ASSISTANT: "assistant"}
    turns = tuple(
        {"role": roles[mark], "content": text.strip()} for mark, text in zip(parts[1::2], parts[2::2], strict=True)
    )
    return (*opening, *(turns[:-1] if not turns[-1]["content"] else turns))
