"""Measures of made-up answers, worked out by hand."""

import math

import pytest
from commands.evaluation.made_up import answers

from lit_rlhf.commands.evaluation.measures import MEANINGS, measured

NAN = math.nan


def test_rewards_and_parts_of_those_that_have_one():
    parts = {"length": [1.0, 1.0, 1.0, 1.0, 1.0, 7.0]}
    found = measured(answers([1.0, 3.0, NAN, 5.0, NAN, NAN], parts=parts), None, False)
    assert found["reward"].value == pytest.approx(3.0) and found["reward"].prompts == 2
    assert found["reward/length"].value == pytest.approx(2.0) and "gain" not in found and "pass@1" not in found


def test_gain_is_paired_over_prompts():
    baseline = answers([0.0, 0.0, 10.0, 10.0])
    found = measured(answers([1.0, 1.0, 11.0, 11.0]), baseline, False)
    assert found["gain"].value == found["gain"].low == found["gain"].high == 1.0
    assert found["reward"].high - found["reward"].low == pytest.approx(10.0)  # which one mean alone would hide


def test_win_rate_is_a_mean_over_prompts():
    found = measured(answers([0.0] * 4, win=[1.0, 1.0, 0.5, NAN]), answers([0.0] * 4), False)
    assert found["win_rate"].value == pytest.approx(0.75) and found["win_rate"].prompts == 2


def test_kl_of_completions_and_of_tokens():
    found = measured(answers([0.0] * 4, texts=["a", "a b", "a b c", ""], kl=[2.0, 3.0, 4.0, 1.0]), None, False)
    assert found["kl"].value == pytest.approx(10 / 4)
    assert found["kl_per_token"].value == pytest.approx(10 / (2 + 3 + 4 + 1))  # each has a terminator


def test_shape():
    found = measured(answers([0.0] * 4, texts=["a b", "a b", "a", "c d"], cut=(0, 3)), None, False)
    assert found["cut"].value == 0.5 and found["words"].value == pytest.approx(7 / 4)
    assert found["tokens"].value == pytest.approx(11 / 4)
    assert found["unique"].value == pytest.approx((0.5 + 1) / 2)
    assert found["distinct_1"].value == pytest.approx((2 / 4 + 1) / 2)
    assert found["similarity"].value == pytest.approx((1 + 0) / 2)


def test_what_a_single_completion_has_not():
    found = measured(answers([1.0, 2.0], samples=1), None, False)
    assert not {"unique", "similarity", "win_rate", "kl"} & found.keys() and found["distinct_2"].value == 1.0


def test_pass_at_k_where_the_reward_is_verifiable():
    found = measured(answers([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], samples=3), None, True)
    assert [name for name in found if name.startswith("pass@")] == ["pass@1", "pass@2", "pass@3"]
    assert found["pass@1"].value == pytest.approx(1 / 6)  # (1/3 + 0) / 2
    assert found["pass@2"].value == pytest.approx(1 / 3)  # (2/3 + 0) / 2
    assert found["pass@3"].value == pytest.approx(1 / 2)


def test_every_measure_is_explained():
    base = answers([0.0] * 4)
    found = measured(answers([0.0] * 4, win=[0.5] * 4, kl=[1.0] * 4), base, False)
    assert found.keys() == MEANINGS.keys()
