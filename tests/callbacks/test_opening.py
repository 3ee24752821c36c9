"""What a run prints before it begins."""

from torch import nn

from lit_rlhf.callbacks.opening import sized


def test_the_size_of_a_part_and_what_of_it_is_trained():
    part = nn.Sequential(nn.Linear(99, 10), nn.Linear(10, 1))
    assert sized("actor", part) == "actor: 1,011 parameters, all trained"
    part[0].requires_grad_(False)
    assert sized("actor", part) == "actor: 1,011 parameters, 11 of them trained"
