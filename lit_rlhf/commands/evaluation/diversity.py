"""How much the completions of a prompt differ from one another, by their words, so that tokenizers can be compared."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+|[^\w\s]")


def words(text: str) -> tuple[str, ...]:
    """Words and punctuation marks."""
    return tuple(_WORD.findall(text))


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Different n-grams of words among all n-grams of these texts; None where they have none.

    See "A Diversity-Promoting Objective Function for Neural Conversation Models" by Li et al.
    (https://arxiv.org/abs/1510.03055).
    """
    grams = [gram for text in texts for gram in _grams(text, n)]
    return len(set(grams)) / len(grams) if grams else None


def unique(texts: Sequence[str]) -> float | None:
    """Different texts among these; None for a single one."""
    return len(set(texts)) / len(texts) if len(texts) > 1 else None


def similarity(texts: Sequence[str]) -> float | None:
    """The mean over pairs of texts of 2 |A and B| / (|A| + |B|), A and B their multisets of words.

    1: the same words in every text; 0: no word in common; None for a single text.
    """
    bags = [Counter(words(text)) for text in texts]
    found = [_overlap(one, other) for one, other in itertools.combinations(bags, 2)]
    return sum(found) / len(found) if found else None


def _overlap(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    found = words(text)
    return [found[start : start + n] for start in range(len(found) - n + 1)]
