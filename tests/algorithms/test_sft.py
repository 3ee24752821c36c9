import pytest
from by_hand import labelled, responses, value
from support import Bigram

from lit_rlhf.algorithms.sft import SFT


def test_it_is_the_negative_log_probability_of_a_token():
    batch = labelled()
    expected = -sum(y.logp for y in responses(batch.sequences)) / len(batch.sequences.completion_ids)
    assert value(SFT(Bigram()), batch) == pytest.approx(expected, rel=1e-5)
