import pytest
from by_hand import chosen_nll, drawn, mean, pairs, value
from support import Bigram

from lit_rlhf.algorithms.slic import SLiC


def test_it_is_a_margin_of_one_nat_and_likelihood():
    batch = drawn()
    expected = mean(max(0.0, 1 - (w.logp - l.logp)) for w, l in pairs(batch)) + chosen_nll(batch)
    assert value(SLiC(Bigram()), batch) == pytest.approx(expected, rel=1e-5)
