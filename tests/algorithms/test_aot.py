import pytest
from by_hand import drawn, log_sigmoid, mean, pairs, posterior, value

from lit_rlhf.algorithms.aot import AOT
from lit_rlhf.losses import transport


def sorted_loss(above, below):
    return mean(-log_sigmoid(0.1 * (a - b)) for a, b in zip(sorted(above), sorted(below), strict=True))


def test_margins_of_the_policy_meet_those_of_the_reference_in_order():
    batch = drawn(prompts=6)
    ends = pairs(batch)
    policy = [w.logp - l.logp for w, l in ends]
    reference = [(w.logp - w.ratio) - (l.logp - l.ratio) for w, l in ends]
    assert value(AOT(**posterior()), batch) == pytest.approx(sorted_loss(policy, reference), rel=1e-5)


def test_unpaired_the_chosen_ends_meet_the_rejected_ones_in_order():
    batch = drawn(prompts=6)
    ends = pairs(batch)
    expected = sorted_loss([w.ratio for w, _ in ends], [l.ratio for _, l in ends])
    assert value(AOT(loss=transport.AOT(paired=False), **posterior()), batch) == pytest.approx(expected, rel=1e-5)
