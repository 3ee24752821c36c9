"""Steps done to rewards."""

import math

import pytest

from lit_rlhf.data.records import RowError
from lit_rlhf.data.rewards import Clip, Logit, Scale, transformed
from lit_rlhf.errors import InputError


def test_steps_are_done_in_their_order():
    assert transformed(0.999999, (Logit(), Clip(-4, 4))) == 4.0
    assert transformed(5.0, (Scale(2.0, 1.0), Clip(high=7))) == 7.0
    assert transformed(5.0, (Clip(high=7), Scale(2.0, 1.0))) == 8.0
    assert transformed(5.0, ()) == 5.0


def test_logit_inverts_the_logistic_function():
    assert transformed(1 / (1 + math.exp(-1.3)), (Logit(),)) == pytest.approx(1.3)
    with pytest.raises(RowError, match="found 1.0, expected a probability between 0 and 1, ends excluded"):
        Logit()(1.0)


def test_an_empty_interval_is_refused():
    with pytest.raises(InputError, match="low=2 is not below high=1"):
        Clip(2, 1)
