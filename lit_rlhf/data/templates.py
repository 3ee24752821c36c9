"""Chat templates: conversations as text, with the character spans of the turns that are trained.

Spans are found by rendering beginnings of the conversation, so any template serves; nothing is looked up by its name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_rlhf.data.messages import is_trained
from lit_rlhf.data.records import Message, RowError
from lit_rlhf.errors import InputError

PLAIN = (
    "{{ bos }}{% for m in messages %}{% if not loop.first %}{{ '\\n\\n' }}{% endif %}{{ m.role | capitalize }}: "
    "{{ m.content if m.content is string else m.content | map(attribute='text') | join }}"
    "{% if m.role == 'assistant' %}{{ eos }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"
)
"""For tokenizers without a template: `User: ...`, a blank line, `Assistant: ...` and the terminator."""
_PROBE = "Aprobe"


@dataclass(frozen=True)
class Turn:
    """Characters start..end-1 of a rendered text, trained with this weight."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Rendered:
    """A conversation as text. The prompt is what stands before the first turn."""

    text: str
    turns: tuple[Turn, ...]


class ChatTemplate:
    """Renders conversations.

    Args:
        tokenizer: of transformers; its own template is taken unless `template` is given, `PLAIN` where it has none.
        template: Jinja, or the path of a file with it.
        arguments: what the template takes besides (`enable_thinking`, `date_string`, ...).
        bos: what a plain text begins with, for `PLAIN`.

    Raises:
        InputError: the template cannot be read or does not write what the assistant says.
    """

    def __init__(
        self, tokenizer: Any, template: str | None = None, arguments: Mapping[str, Any] | None = None, bos: str = ""
    ) -> None:
        own = getattr(tokenizer, "chat_template", None)
        self.tokenizer, self.arguments = tokenizer, dict(arguments or {})
        self.source = "data.chat_template" if template else "the tokenizer's" if own else "plain"
        if template:
            self.arguments["chat_template"] = _contents(template)
        elif not own:
            self.arguments |= {"chat_template": PLAIN, "bos": bos, "eos": tokenizer.eos_token or ""}
        self.identity = repr((own, sorted(self.arguments.items(), key=str)))
        self.suffix = self._after_the_reply()

    def render(self, messages: Sequence[Message], generation: bool = False) -> str:
        """The text of a conversation, with the beginning of the assistant's turn where `generation`.

        Raises:
            RowError: the template refuses the messages.
        """
        if not messages and not generation:
            return ""
        try:
            return self.tokenizer.apply_chat_template(
                [{key: value for key, value in message.items() if key != "weight"} for message in messages],
                tokenize=False,
                add_generation_prompt=generation,
                **self.arguments,
            )
        except Exception as error:  # whatever the template's author raises
            raise RowError(
                f"the chat template refuses the messages: {(str(error) or repr(error)).splitlines()[0]}"
            ) from error

    def rendered(self, prompt: Sequence[Message], completion: Sequence[Message], terminator: str | None) -> Rendered:
        """The conversation with the spans of the completion's trained turns, each to the end of its terminator.

        Args:
            prompt: may be empty.
            completion: what follows, with at least one trained turn of the assistant.
            terminator: the token that ends a turn, as text; None where the template writes none.

        Raises:
            RowError: nothing is trained, or the template writes the beginning differently when more follows.
        """
        messages = [*prompt, *completion]
        text = self.render(messages)
        turns = []
        for place in range(len(prompt), len(messages)):
            if is_trained(messages[place]):
                start = self._start(text, messages, place)
                end = self._end(text, messages, place, start, terminator)
                turns.append(Turn(start, end, float(messages[place].get("weight", 1.0))))
        if not turns:
            raise RowError("no turn of the assistant is trained: a completion has at least one with a weight above 0")
        return Rendered(text, tuple(turns))

    def opening(self, prompt: Sequence[Message]) -> str:
        """What stands before the assistant's words in an answer to these messages.

        Raises:
            RowError: the template refuses the messages, or writes them differently when more follows.
        """
        messages = [*prompt, {"role": "assistant", "content": _PROBE}]
        text = self.render(messages)
        return text[: self._start(text, messages, len(prompt))]

    def _start(self, text: str, messages: Sequence[Message], place: int) -> int:
        """Where what the assistant writes begins: after the generation prompt, as when it is asked for."""
        asked = self.render(messages[:place], generation=True)
        if text.startswith(asked):
            return len(asked)
        replies = [
            self.render([*messages[:place], {"role": "assistant", "content": content}]) for content in ("A", "Z")
        ]
        header = os.path.commonprefix(replies)
        if text.startswith(header):
            return len(header)
        raise RowError(
            f"the chat template writes what precedes message {place} differently when more follows: "
            "its turns cannot be told apart"
        )

    def _end(self, text: str, messages: Sequence[Message], place: int, start: int, terminator: str | None) -> int:
        so_far = self.render(messages[: place + 1])
        if text.startswith(so_far):
            kept = self.suffix[: self.suffix.find(terminator) + len(terminator)] if terminator else self.suffix.rstrip()
            ends = so_far.endswith(self.suffix)
            return len(so_far) - len(self.suffix) + len(kept) if ends else len(so_far)
        found = text.find(terminator, start) if terminator else -1
        if found < 0:
            raise RowError(
                f"the chat template writes message {place} differently when more follows: its end cannot be found"
            )
        return found + len(terminator)

    def _after_the_reply(self) -> str:
        """What the template writes after the assistant's words."""
        try:
            text = self.render([{"role": "user", "content": "Q"}, {"role": "assistant", "content": _PROBE}])
        except RowError as error:
            raise InputError(f"{self.source} chat template: {error}") from error
        if _PROBE not in text:
            raise InputError(f"{self.source} chat template: the assistant's words are not in {text!r}")
        return text[text.rindex(_PROBE) + len(_PROBE) :]


def _contents(template: str) -> str:
    """Jinja, or the contents of the file that is named."""
    if "{" in template:
        return template
    try:
        with open(template, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise InputError(
            f"data.chat_template: {template}: neither Jinja nor a file that can be read: {error.strerror}"
        ) from error
