import io
import random

import numpy as np
import torch

from lit_rlhf.callbacks.random_state import RandomState


def draws():
    ours = random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn()
    return *ours, torch.rand(1).item(), torch.randn(1).item()


def test_every_generator_goes_on_where_it_was_even_through_a_safe_file():
    random.gauss(0, 1), np.random.randn()  # leaves half of a pair of normal numbers behind
    state = RandomState.now()
    expected = draws()
    file = io.BytesIO()
    torch.save(state.as_lists(), file)
    file.seek(0)
    for _ in range(2):
        RandomState.from_lists(torch.load(file, weights_only=True)).restore()
        file.seek(0)
        assert draws() == expected


def test_looking_moves_nothing():
    state = RandomState.now()
    expected = draws()
    state.restore()
    RandomState.now().as_lists()
    assert draws() == expected
