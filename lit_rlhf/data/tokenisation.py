"""Records to prompt groups. A text is tokenised once, whole, and cut where its characters say.

A token that straddles the end of the prompt is the prompt's, and counted. Every completion ends by a token of the stop
set, which is trained; an empty one is its terminator alone. A prompt alone is written as it is before a completion.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_rlhf.data.encoding import Encoded, Encoder, StopSet, stop_set
from lit_rlhf.data.records import Completion, Group, Pair, Record, RowError, Text
from lit_rlhf.data.templates import ChatTemplate, Rendered, Turn
from lit_rlhf.errors import InputError
from lit_rlhf.types import PromptRecord


@dataclass(frozen=True)
class Tokenised:
    """A record as a group, and what is worth counting."""

    group: Group
    straddles: int = 0
    """Completions whose first characters share a token with the prompt."""
    empties: int = 0
    """Completions without text."""


class Tokenisation:
    """One tokenizer and one template, for whole rows.

    Args:
        tokenizer: of transformers, with character offsets.
        chat_template: Jinja or a file of it; the tokenizer's own, or a plain one where it has none.
        template_arguments: what the template takes besides.
        generation_stops: ids that end a completion by the model's generation settings.

    Raises:
        InputError: the tokenizer has no offsets, or no token to end a completion by.
    """

    def __init__(
        self,
        tokenizer: Any,
        chat_template: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        generation_stops: Iterable[int] = (),
    ) -> None:
        self.encode = Encoder(tokenizer)
        self.prefix = self.encode.prefix
        self.template = ChatTemplate(
            tokenizer, chat_template, template_arguments, "".join(tokenizer.convert_ids_to_tokens(self.prefix))
        )
        self._turn_end = self._terminator(tokenizer)
        self.stop_set: StopSet = stop_set(
            tokenizer, generation_stops, None if self._turn_end is None else self._turn_end[0]
        )
        self.eos = (
            tokenizer.eos_token_id
            if self._turn_end is None or tokenizer.eos_token_id is not None
            else self._turn_end[0]
        )
        if self.eos is None:
            raise InputError(
                f"{tokenizer.name_or_path or 'the tokenizer'} has no EOS token and its template no terminator: the model "
                "would never learn to stop. Set eos_token in tokenizer_config.json, or name a tokenizer in data.tokenizer"
            )

    @property
    def identity(self) -> str:
        """A hash of everything that the tokens of a record depend on."""
        told = (self.encode.description, self.template.identity, self.stop_set, self.eos)
        return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()

    def __call__(self, records: Sequence[Record]) -> list[Tokenised | RowError]:
        """The groups of records, with the error in the place of a record that cannot be one."""
        laid_out = [self._laid_out(record) for record in records]
        texts = [text.text for texts in laid_out if not isinstance(texts, RowError) for text in texts]
        encoded = iter(self.encode(texts))
        return [
            texts if isinstance(texts, RowError) else self._group(record, texts, [next(encoded) for _ in texts])
            for record, texts in zip(records, laid_out, strict=True)
        ]

    def _terminator(self, tokenizer: Any) -> tuple[int, str] | None:
        """The first special token that the template writes after the assistant's words."""
        ids = self.encode([self.template.suffix])[0].ids.tolist()
        special = {
            *tokenizer.all_special_ids,
            *(i for i, token in tokenizer.added_tokens_decoder.items() if token.special),
        }
        return next(((i, tokenizer.convert_ids_to_tokens(i)) for i in ids if i in special), None)

    # ---- text

    def _laid_out(self, record: Record) -> list[Rendered] | RowError:
        try:
            if not record.completions:
                return [Rendered(self._asked(record.prompt), ())]
            texts = [self._text(record, completion) for completion in record.completions]
            prompts = {text.text[: text.turns[0].start] for text in texts}
            if len(prompts) > 1:
                raise RowError("the chat template writes the prompt differently for different completions")
        except RowError as error:
            return error
        return texts

    def _asked(self, prompt: Text) -> str:
        """A prompt alone, to where the assistant's words begin."""
        return prompt if isinstance(prompt, str) else self.template.opening(prompt)

    def _text(self, record: Record, completion: Completion) -> Rendered:
        if isinstance(completion.text, str):
            prompt = record.prompt or ""
            return Rendered(prompt + completion.text, (Turn(len(prompt), len(prompt + completion.text), 1.0),))
        return self.template.rendered(
            record.prompt, completion.text, None if self._turn_end is None else self._turn_end[1]
        )

    # ---- tokens

    def _group(self, record: Record, texts: Sequence[Rendered], encoded: Sequence[Encoded]) -> Tokenised | RowError:
        if not record.completions:
            return self._prompt(record, encoded[0])
        chat = not isinstance(record.completions[0].text, str)
        parts = [self._cut(text, tokens, chat) for text, tokens in zip(texts, encoded, strict=True)]
        straddles = sum(part.straddles for part in parts)
        if any(not np.array_equal(part.prompt, parts[0].prompt) for part in parts):
            parts = self._apart(texts, parts, chat)
        try:
            prompt, parts = self._with_prompt(record, parts, chat)
        except RowError as error:
            return error
        weights = tuple(part.weight for part in parts)
        group = Group(
            prompt_ids=prompt,
            completions=tuple(part.completion for part in parts),
            token_weights=None if all((weight == 1.0).all() for weight in weights) else weights,
            rewards=_all(completion.reward for completion in record.completions),
            labels=_all(completion.label for completion in record.completions),
            pairs=tuple(Pair(p.chosen, p.rejected, p.probability, p.gap, p.weight) for p in record.preferences),
            row=record.row,
            weight=record.weight,
        )
        return Tokenised(group, straddles, sum(_is_empty(completion) for completion in record.completions))

    def _prompt(self, record: Record, tokens: Encoded) -> Tokenised | RowError:
        """The group of a prompt alone."""
        nothing = _Part(tokens.ids, tokens.ids[:0], np.empty(0, dtype=np.float32), straddles=False)
        try:
            ids, _ = self._with_prompt(record, [nothing], chat=not isinstance(record.prompt, str))
        except RowError as error:
            return error
        known = PromptRecord(record.prompt, record.answer, record.extra, record.row)
        return Tokenised(Group(ids, (), row=record.row, weight=record.weight, record=known))

    def _cut(self, text: Rendered, tokens: Encoded, chat: bool) -> _Part:
        """Prompt and completion of one text: a completion's tokens begin where the first turn does, or later."""
        boundary = text.turns[0].start
        first = int(np.count_nonzero(tokens.start < boundary))
        weight = np.zeros(len(tokens.ids), dtype=np.float32)
        for turn in text.turns:
            weight[(tokens.start >= turn.start) & (tokens.end <= turn.end)] = turn.weight
        last = 1 + int(np.flatnonzero(weight[first:]).max(initial=-1)) + first
        ids, weight = tokens.ids[first:last], weight[first:last]
        if not len(ids) or int(ids[-1]) not in self.stop_set:
            ids = np.append(ids, np.int32(self._turn_end[0] if chat and self._turn_end else self.eos))
            weight = np.append(weight, np.float32(text.turns[-1].weight))
        return _Part(tokens.ids[:first], ids, weight, bool(tokens.straddles(boundary).any()))

    def _apart(self, texts: Sequence[Rendered], parts: Sequence[_Part], chat: bool) -> list[_Part]:
        """One prompt for all completions where only some share a token with it: those are encoded apart from it."""
        boundary = texts[0].turns[0].start
        prompt = self.encode([texts[0].text[:boundary]])[0].ids
        own = [self._cut(after(text, boundary), self.encode([text.text[boundary:]])[0], chat) for text in texts]
        return [
            dataclasses.replace(part if np.array_equal(part.prompt, prompt) else alone, prompt=prompt)
            for part, alone in zip(parts, own, strict=True)
        ]

    def _with_prompt(self, record: Record, parts: Sequence[_Part], chat: bool) -> tuple[np.ndarray, list[_Part]]:
        """The prompt with what the tokenizer puts before a text, once.

        Raises:
            RowError: the prompt has no token.
        """
        prompt, parts = parts[0].prompt, list(parts)
        if (not chat or not len(prompt)) and tuple(prompt[: len(self.prefix)].tolist()) != self.prefix:
            prompt = np.concatenate([np.array(self.prefix, dtype=np.int32), prompt])
        if not len(prompt) and record.prompt is None and len(parts[0].completion) > 1:
            whole = parts[0]
            prompt, parts = (
                whole.completion[:1],
                [dataclasses.replace(whole, completion=whole.completion[1:], weight=whole.weight[1:])],
            )
        if not len(prompt):
            raise RowError(
                f"column {'text' if record.prompt is None else 'prompt'}: found no token and the tokenizer has no BOS, "
                "expected at least one token to predict the first of the completion from"
            )
        return prompt, parts


@dataclass(frozen=True)
class _Part:
    """Prompt and completion of one text."""

    prompt: np.ndarray
    completion: np.ndarray
    weight: np.ndarray
    straddles: bool


def after(text: Rendered, boundary: int) -> Rendered:
    """What stands from a character on."""
    turns = tuple(Turn(turn.start - boundary, turn.end - boundary, turn.weight) for turn in text.turns)
    return Rendered(text.text[boundary:], turns)


def with_ties(group: Group) -> tuple[Group, int]:
    """Pairs of identical completions become ties (probability 1/2, gap 0), and how many there are."""
    same = [np.array_equal(group.completions[pair.chosen], group.completions[pair.rejected]) for pair in group.pairs]
    if not any(same):
        return group, 0
    pairs = tuple(
        dataclasses.replace(pair, probability=0.5, gap=None if pair.gap is None else 0.0) if tie else pair
        for pair, tie in zip(group.pairs, same, strict=True)
    )
    return dataclasses.replace(group, pairs=pairs), sum(same)


def _all(values: Iterable[float | None]) -> tuple[float, ...] | None:
    """None where one is missing."""
    found = tuple(values)
    return None if None in found else found


def _is_empty(completion: Completion) -> bool:
    if isinstance(completion.text, str):
        return not completion.text
    return not any(
        message["content"] or message.get("tool_calls") for message in completion.text if message["role"] == "assistant"
    )
