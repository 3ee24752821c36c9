"""Text to tokens with exact character spans, and the tokens that end a completion."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_rlhf.errors import InputError


@dataclass(frozen=True)
class Encoded:
    """A text as tokens; token t covers the characters start[t]..end[t]-1."""

    ids: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def straddles(self, boundary: int) -> np.ndarray:
        """[n] whether a token begins before a character position and ends after it."""
        return (self.start < boundary) & (self.end > boundary)


class Encoder:
    """The only place where text becomes tokens. Nothing is added: special tokens are those written in the text.

    `prefix` are the tokens that the tokenizer puts before a plain text (BOS, mostly).
    It works on a copy of the tokenizer: no padding or truncation set elsewhere touches it, nor does it touch any.

    Raises:
        InputError: the tokenizer gives no character offsets.
    """

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer

        if not getattr(tokenizer, "is_fast", False):
            raise InputError(
                f"{type(tokenizer).__name__} gives no character offsets, by which prompts and completions are told "
                "apart: use a tokenizer with a tokenizer.json"
            )
        described = json.loads(tokenizer.backend_tokenizer.to_str())
        self.description = json.dumps(_untrimmed(described) | {"padding": None, "truncation": None})
        self._copy = Tokenizer.from_str(self.description)
        self.prefix = self._prefix()

    def __call__(self, texts: Sequence[str]) -> list[Encoded]:
        try:
            return [_encoded(encoding) for encoding in self._encodings(list(texts))]
        except Exception as error:  # tokenizers raises plain exceptions
            raise InputError(
                f"the tokenizer cannot write a text of the data: {error}. Use a tokenizer with all its characters"
            ) from error

    def _prefix(self) -> tuple[int, ...]:
        if not self._copy.encode("").ids:
            return ()
        bare, whole = self._copy.encode("a", add_special_tokens=False).ids, self._copy.encode("a").ids
        place = next((i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare), 0)
        return tuple(whole[:place])

    def _encodings(self, texts: list[str]) -> list[Any]:
        if len(texts) < 64:  # encode_batch makes threads, which a forked worker must not meet
            return [self._copy.encode(text, add_special_tokens=False) for text in texts]
        return self._copy.encode_batch(texts, add_special_tokens=False)


def _encoded(encoding: Any) -> Encoded:
    spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    return Encoded(np.array(encoding.ids, dtype=np.int32), spans[:, 0], spans[:, 1])


def _untrimmed(node: Any) -> Any:
    """A byte-level tokenizer leaves the space before a word out of its token's offsets unless it is told not to."""
    if isinstance(node, dict):
        return {
            key: False if key == "trim_offsets" else value if key == "vocab" else _untrimmed(value)
            for key, value in node.items()
        }
    return (
        [_untrimmed(value) for value in node] if isinstance(node, list) and node and isinstance(node[0], dict) else node
    )


@dataclass(frozen=True)
class StopSet:
    """The tokens that end a completion: of the tokenizer (EOS), the generation settings and the template."""

    ids: tuple[int, ...]
    names: tuple[str, ...]
    origins: tuple[str, ...]

    def __contains__(self, token: int) -> bool:
        return int(token) in self.ids

    def text(self) -> str:
        """`'<eos>' (2, tokenizer)`, and so on."""
        return (
            ", ".join(f"{n!r} ({i}, {o})" for i, n, o in zip(self.ids, self.names, self.origins, strict=True))
            or "empty"
        )


def stop_set(tokenizer: Any, generation: Iterable[int] = (), terminator: int | None = None) -> StopSet:
    """The union of the three sources, in order of id, each named with where it is from."""
    found: dict[int, list[str]] = {}
    for origin, ids in (
        ("tokenizer", [tokenizer.eos_token_id]),
        ("generation config", generation),
        ("template", [terminator]),
    ):
        for token in ids:
            if token is not None:
                found.setdefault(int(token), []).append(origin)
    ids = tuple(sorted(found))
    return StopSet(
        ids,
        tuple(tokenizer.convert_ids_to_tokens(token) for token in ids),
        tuple(" and ".join(found[token]) for token in ids),
    )


def generation_stops(tokenizer: Any) -> tuple[int, ...]:
    """The ids by which the generation settings beside a tokenizer end a completion; none without settings."""
    from transformers import GenerationConfig

    if not tokenizer.name_or_path:
        return ()
    try:
        ids = GenerationConfig.from_pretrained(tokenizer.name_or_path).eos_token_id
    except (OSError, ValueError):
        return ()
    return () if ids is None else tuple(ids) if isinstance(ids, (list, tuple)) else (int(ids),)
