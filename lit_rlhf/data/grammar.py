"""The world of the built-in task, exactly: words, prompts, all responses, the law that writes them, the reward.

W = 16 words and EOS are the whole vocabulary. A response ends at EOS or, without one, at its third word, so
Y = 1 + 16 + 16^2 + 16^3 = 4,369 responses carry all probability of any policy: a mean, a target pi^tau and a
KL divergence are sums, not estimates. Letters: X prompts, Y responses, V = 17 tokens.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable

import numpy as np
import torch

from lit_rlhf.types import Sequences

NOUNS = ("film", "meal", "room", "staff")
VALENCE = {"great": 1.0, "good": 0.6, "kind": 0.5, "fresh": 0.4, "slow": -0.4, "bad": -0.7, "awful": -1.1}
"""How much praise a word is."""
WORDS = ("the", *NOUNS, "was", "not", "very", "and", *VALENCE)
EOS = "<eos>"
TOKENS = (*WORDS, EOS)
"""A token's id is its place here."""
MAX_WORDS = 3
PROMPTS = tuple(prompt for noun in NOUNS for prompt in (f"{noun} was", f"the {noun} was not"))
APT = {("film", "slow"): 1.5, ("meal", "fresh"): 2.0, ("room", "fresh"): 1.5, ("staff", "kind"): 2.0, ("staff", "slow"): 1.5}
"""How much more a word says of one noun than of the others; 1 where it is not listed."""

_ID = {token: index for index, token in enumerate(TOKENS)}
_KIND = {"the": "the", "was": "was", "not": "not", "very": "very", "and": "and", EOS: EOS}
_KIND |= dict.fromkeys(NOUNS, "noun") | dict.fromkeys(VALENCE, "adjective")
_NEXT = {  # what follows a kind of word, by kind
    "was": {"adjective": 0.65, "very": 0.15, "not": 0.10, "the": 0.05, EOS: 0.05},
    "not": {"adjective": 0.60, "very": 0.25, "the": 0.05, EOS: 0.10},
    "very": {"adjective": 0.85, "very": 0.10, "noun": 0.05},
    "adjective": {EOS: 0.60, "and": 0.30, "noun": 0.10},
    "and": {"adjective": 0.55, "very": 0.20, "not": 0.10, "the": 0.15},
    "the": {"noun": 0.80, "adjective": 0.20},
    "noun": {"was": 0.60, EOS: 0.30, "and": 0.10},
}
_SLIP = 0.1  # share of any word at all, so that every response can be written


def encoded(text: str) -> list[int]:
    """The token ids of words separated by spaces."""
    return [_ID[word] for word in text.split()]


def decoded(ids: Iterable[int]) -> str:
    """The words of token ids, separated by spaces."""
    return " ".join(TOKENS[index] for index in ids)


@functools.cache
def responses() -> tuple[tuple[str, ...], ...]:
    """All Y responses as tokens, in order of length; the terminator is written, and a response of three words has none."""
    shorter = (
        (*words, EOS) for length in range(MAX_WORDS) for words in itertools.product(WORDS, repeat=length)
    )
    return (*shorter, *itertools.product(WORDS, repeat=MAX_WORDS))


@functools.cache
def response_ids() -> tuple[np.ndarray, ...]:
    """The token ids of every response."""
    return tuple(np.array([_ID[token] for token in response]) for response in responses())


def next_token(prompt: str, before: str) -> np.ndarray:
    """[V] the writer's law of the next token, in a review of `prompt`, after the word `before`.

    A kind of word is drawn by the kind before, then a word of it: adjectives in proportion to how apt they are for
    the noun, nouns in proportion to 3 for the prompt's own and 1 else. One word in ten is any token at all.
    """
    noun = next(word for word in prompt.split() if word in NOUNS)
    law = np.full(len(TOKENS), _SLIP / len(TOKENS))
    for kind, share in _NEXT[_KIND[before]].items():
        words = [token for token in TOKENS if _KIND[token] == kind]
        taste = np.array([3.0 if word == noun else APT.get((noun, word), 1.0) for word in words])
        law[[_ID[word] for word in words]] += (1 - _SLIP) * share * taste / taste.sum()
    return law


@functools.cache
def log_law(prompt: str) -> np.ndarray:
    """[Y] log-probability that the writer answers `prompt` with each response, in nats. Its exponential sums to 1."""
    steps = {word: np.log(next_token(prompt, word)) for word in WORDS}
    last = prompt.split()[-1]
    return np.array([
        sum(steps[before][_ID[token]] for before, token in zip((last, *response), response, strict=False))
        for response in responses()
    ])


@functools.cache
def rewards(prompt: str) -> np.ndarray:
    """[Y] the reward of each response to `prompt`, in nats once divided by tau.

    r = sign * sum_i valence(w_i) * aptness(noun, w_i) * m(w_{i-1}) + e: m is 1.5 after "very", -0.7 after "not", 1 else,
    and the sign is -1 where the prompt ends by "not" (a film that was not awful is praised). The ending e is 0.25 for
    a review that ends, -0.25 for one that is cut at the third word, -0.5 for an empty one.
    """
    noun = next(word for word in prompt.split() if word in NOUNS)
    sign = -1.0 if prompt.endswith("not") else 1.0
    return np.array([sign * _praise(noun, response) + _ending(response) for response in responses()])


def every_response(prompt: str, start: int = 0, stop: int | None = None) -> Sequences:
    """The responses start..stop-1 to one prompt, as sequences (N = 1, S = stop - start)."""
    ids = response_ids()[start:stop]
    prompt_ids = encoded(prompt)
    return Sequences(
        prompt_ids=torch.tensor(prompt_ids),
        prompt_lengths=torch.tensor([len(prompt_ids)]),
        completion_ids=torch.from_numpy(np.concatenate(ids)),
        completion_lengths=torch.tensor([len(response) for response in ids]),
        prompt_of=torch.zeros(len(ids), dtype=torch.long),
    )


def _praise(noun: str, response: tuple[str, ...]) -> float:
    """The sum of what the words of a response say of a noun."""
    strength = {"very": 1.5, "not": -0.7}
    before = ("", *response)
    return sum(
        VALENCE.get(word, 0.0) * APT.get((noun, word), 1.0) * strength.get(previous, 1.0)
        for previous, word in zip(before, response, strict=False)
    )


def _ending(response: tuple[str, ...]) -> float:
    if response == (EOS,):
        return -0.5
    return 0.25 if response[-1] == EOS else -0.25
