from typing import ClassVar

import pytest
import torch
from by_hand import groups, mean, posterior, value
from support import scored

from lit_rlhf.algorithms.dro import DRO
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.learned import Learned, LogPartition


class Known(Learned):
    """log Z = 1, 2, 3, ... of the prompts."""

    fills: ClassVar[str] = "log_partition"
    lr = None

    def forward(self, sequences):
        return torch.arange(len(sequences.prompt_lengths)) + 1.0


def test_the_reward_is_the_value_and_the_implicit_reward():
    batch = scored(0)
    expected = mean(
        (0.1 * y.ratio + 0.1 * (prompt + 1) - r) ** 2 / 2
        for prompt, group in enumerate(groups(batch))
        for y, r in group
    )
    assert value(DRO(learned=[Known()], **posterior()), batch) == pytest.approx(expected, rel=1e-5)


def test_the_value_starts_from_the_actors_own_source():
    (value_model,) = DRO(Actor("lit_rlhf/reviews")).learned
    assert isinstance(value_model, LogPartition)
    assert value_model.model.source == "lit_rlhf/reviews"
