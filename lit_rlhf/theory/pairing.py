"""Pairs whose label is drawn, as both outcomes with their probabilities."""

from __future__ import annotations

import copy
import dataclasses

import torch

from lit_rlhf.algorithms.pairing import Collected, Pairs
from lit_rlhf.types import PreferenceBatch


class BothOutcomes(Pairs):
    """What other pairs say with `labels=sampled`, in expectation.

    Args:
        pairs: with soft labels.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs, self.labels = pairs, "sampled"

    @classmethod
    def of(cls, pairs: Pairs) -> Pairs:
        """The same pairs where no label is drawn."""
        if getattr(pairs, "labels", None) != "sampled" or isinstance(pairs, cls):
            return pairs
        soft = copy.copy(pairs)
        soft.labels = "soft"
        return cls(soft)

    def build(self) -> None:
        self.pairs.build()

    def __call__(self, collected: Collected) -> PreferenceBatch:
        found = self.pairs(collected)
        weight, p = found.pair_weight, found.probability
        return dataclasses.replace(
            found, chosen=torch.cat([found.chosen, found.rejected]), rejected=torch.cat([found.rejected, found.chosen]),
            probability=torch.ones(2 * len(p), dtype=p.dtype), weight=torch.cat([weight * p, weight * (1 - p)]),
            reward_gap=None if found.reward_gap is None else torch.cat([found.reward_gap, -found.reward_gap]),
        )
