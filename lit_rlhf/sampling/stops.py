"""What ends a completion: tokens and strings, one set for sampling, rewards and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.errors import InputError

_MARGIN = 4
"""Tokens decoded before the longest string, so that what a tokenizer does at the start of a text is outside it."""


@dataclass(frozen=True)
class StopSet:
    """Token ids and strings. A completion includes what ended it."""

    ids: tuple[int, ...] = ()
    strings: tuple[str, ...] = ()
    tokenizer: Any = None
    """Of the policy; not needed without strings."""

    @classmethod
    def of(cls, model: LanguageModel, strings: Sequence[str] = ()) -> StopSet:
        """The tokenizer's EOS, the model's generation settings (the template's terminator among them) and `strings`.

        A string that is a token of its own which decoding leaves out (a special one) becomes an id.

        Raises:
            InputError: a string that the tokenizer cannot write.
        """
        tokenizer = model.tokenizer if model.origin.has_tokenizer else None
        own = getattr(tokenizer, "eos_token_id", None)
        ids, plain = {*model.stop_ids, *(() if own is None else (own,))}, []
        for string in strings:
            special = _special_id(tokenizer, string)
            if special is None:
                _refuse_unknown(tokenizer, string)
                plain.append(string)
            else:
                ids.add(special)
        return cls(tuple(sorted(ids)), tuple(plain), tokenizer)

    @property
    def window(self) -> int:
        """Tokens at the end of a completion among which the newest string is: each of its bytes may be one."""
        return max((len(string.encode()) for string in self.strings), default=0) + _MARGIN

    def ended(self, tokens: Tensor, tails: Sequence[Sequence[int]]) -> Tensor:
        """[B] bool: whether the newest tokens [B] end their completions.

        Args:
            tokens: [B]
            tails: the last `window` ids of each completion, the newest included; not read without strings.
        """
        found = torch.isin(tokens, torch.tensor(self.ids, dtype=tokens.dtype, device=tokens.device))
        if self.strings:
            found = found | torch.tensor([self._written(tail) for tail in tails], device=tokens.device)
        return found

    def text(self, ids: Sequence[int]) -> str:
        """See `completion_text`."""
        return completion_text(self.tokenizer, ids, self)

    def __str__(self) -> str:
        named = self.tokenizer.convert_ids_to_tokens if self.tokenizer else lambda one: "token"
        tokens = [f"{named(one)} ({one})" for one in self.ids]
        return ", ".join([*tokens, *map(repr, self.strings)]) or "nothing"

    def _written(self, tail: Sequence[int]) -> bool:
        text = decoded(self.tokenizer, tail)
        return any(string in text for string in self.strings)


def completion_text(tokenizer: Any, ids: Sequence[int], stop: StopSet) -> str:
    """What a completion says: without special tokens, without the terminator, and up to a stop string.

    Args:
        tokenizer: of the policy.
        ids: of the completion, what ended it included.
        stop: what ended it, or might have.
    """
    ids = list(ids)
    text = decoded(tokenizer, ids[:-1] if ids and ids[-1] in stop.ids else ids)
    return text[: min((place for string in stop.strings if (place := text.find(string)) >= 0), default=None)]


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text as the tokens say it, special ones left out and no space tidied away."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _special_id(tokenizer: Any, string: str) -> int | None:
    if tokenizer is None or string not in tokenizer.get_vocab():
        return None
    found = tokenizer.get_vocab()[string]
    return None if found == tokenizer.unk_token_id or decoded(tokenizer, [found]) else found


def _refuse_unknown(tokenizer: Any, string: str) -> None:
    if not string:
        raise InputError("model.sampler.stop has an empty string, which would end every completion; leave it out")
    if tokenizer is None:
        raise InputError(f"model.sampler.stop: {string!r} cannot be looked for: the model has no tokenizer; name one")
    ids = _encoded(tokenizer, string)
    found = decoded(tokenizer, ids)
    if string not in found or tokenizer.unk_token_id in ids:
        raise InputError(
            f"model.sampler.stop: the tokenizer cannot write {string!r} (it makes {found!r} of it), so no completion "
            "would end there; name a string of its own tokens"
        )


def _encoded(tokenizer: Any, string: str) -> list[int]:
    """The ids of a string; none where the tokenizer knows no token for a part of it."""
    try:
        return tokenizer.encode(string, add_special_tokens=False)
    except Exception:  # tokenizers raises nothing more special where a vocabulary of words has no unknown word
        return []
