"""Which rows are held out, and how often the sources of a mixture are read: functions of the data and a seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def held_out(keys: Sequence[str], share: float, fold: int, seed: int) -> np.ndarray:
    """[n] whether a row is held out. Rows with the same prompt stay together.

    The distinct prompts, in the order of a seeded hash, are cut at share * fold and share * (fold + 1). So a split does
    not depend on the order of the rows, the tokenizer, the lengths or the algorithm, and the folds are disjoint.

    Args:
        keys: [n] of the prompts.
        share: of the distinct prompts to hold out.
        fold: which stretch of them.
        seed: of the order.
    """
    order = sorted(set(keys), key=lambda key: hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=16).digest())
    first, last = (round(share * part * len(order)) for part in (fold, fold + 1))
    out = set(order[first:last])
    return np.array([key in out for key in keys], dtype=bool)


def mixed(sizes: Sequence[int], weights: Sequence[float | None], seed: int) -> list[np.ndarray]:
    """For each source, the rows of it in an epoch, by index: in proportion to the weights, every row at least once.

    With sizes n_i and weights w_i an epoch has N = max_i n_i / w_i (weights summing to 1) rows, w_i N of source i: all
    of them as often as they fit in, and a seeded choice of the rest. Without weights, every row once.
    """
    if all(weight is None for weight in weights) or not all(sizes):
        return [np.arange(size) for size in sizes]
    given = np.array([1.0 if weight is None else weight for weight in weights])
    share = given / given.sum()
    total = float(np.max(np.array(sizes) / share))
    generator = np.random.default_rng(seed)
    return [_repeated(size, round(part * total), generator) for size, part in zip(sizes, share, strict=True)]


def _repeated(size: int, wanted: int, generator: np.random.Generator) -> np.ndarray:
    whole, rest = divmod(max(wanted, size), size)
    return np.concatenate([np.tile(np.arange(size), whole), np.sort(generator.permutation(size)[:rest])])
