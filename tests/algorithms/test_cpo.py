import pytest
from by_hand import chosen_nll, drawn, log_sigmoid, mean, pairs, value
from support import Bigram

from lit_rlhf.algorithms.cpo import CPO


def test_it_is_dpo_without_a_reference_and_likelihood():
    batch = drawn()
    expected = mean(-log_sigmoid(0.1 * (w.logp - l.logp)) for w, l in pairs(batch)) + chosen_nll(batch)
    assert value(CPO(Bigram()), batch) == pytest.approx(expected, rel=1e-5)
