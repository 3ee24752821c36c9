"""Judges: probabilities of preferences."""

import json
import math

import pytest
import torch
from rewards.given import response, texts

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.function import Function
from lit_rlhf.rewards.judge import FunctionJudge, RewardJudge


def stated(completions):
    return [None if text == "-" else float(text) for text in completions]


def agree(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)


def test_a_reward_judges_by_bradley_and_terry():
    first, second = texts("1", "2", "2", "-"), texts("0", "2", "3", "1")
    reward = Function(stated)
    expected = [1 / (1 + math.exp(-gap / 0.5)) for gap in (1, 0, -1)]
    agree(RewardJudge(reward, tau=0.5)(first, second), [*expected, math.nan])
    agree(RewardJudge(reward, deterministic=True)(first, second), [1.0, 0.5, 0.0, math.nan])
    with pytest.raises(InputError, match="RewardJudge.tau is 0"):
        RewardJudge(reward, tau=0)


def test_a_function_judges_lists_or_pairs():
    first, second = texts("aa", "b"), texts("a", "bbbb")
    agree(FunctionJudge("rewards.functions.longer")(first, second), [1.0, 0.0])
    agree(FunctionJudge("rewards.functions.longer_one", {"tie": 0.25}, batched=False)(first, first), [0.25, 0.25])
    agree(FunctionJudge("rewards.functions.longer", workers=2)(first, second), [1.0, 0.0])
    given = [response("a", answer="x", extra={"colour": "red"})]
    agree(FunctionJudge("rewards.functions.told_pairs")(given, given), [0.5])


def test_both_orders_take_the_bias_of_a_place_away():
    first, second = texts("aa", "a"), texts("a", "a")
    agree(FunctionJudge("rewards.functions.first_place")(first, second), [1.0, 1.0])
    agree(FunctionJudge("rewards.functions.first_place", both_orders=True)(first, second), [0.5, 0.5])
    agree(FunctionJudge("rewards.functions.longer", both_orders=True)(first, second), [1.0, 0.5])


@pytest.mark.parametrize(("policy", "expected"), [("skip", math.nan), ("default", 0.5)])
def test_what_is_no_probability_ends_in_the_policy(policy, expected, tmp_path):
    judge = FunctionJudge("rewards.functions.gaps", on_error=policy, failures=str(tmp_path / "kept"))
    agree(judge(texts("aa", "aaaa"), texts("a", "a")), [1.0, expected])
    (line,) = map(json.loads, (tmp_path / "kept").open())
    assert line["error"] == "returned 3, expected a probability" and (line["first"], line["second"]) == ("aaaa", "a")
    with pytest.raises(RuntimeError, match="FunctionJudge gaps: rewards.functions.gaps returned 3, expected a prob"):
        FunctionJudge("rewards.functions.gaps")(texts("aaaa"), texts("a"))


def test_a_judge_that_hangs():
    judge = FunctionJudge("rewards.functions.never", timeout=1.0, on_error="skip")
    agree(judge(texts("a"), texts("b")), [math.nan])


def test_mistakes_are_found_by_check():
    with pytest.raises(InputError, match="rewards.functions has no longr; did you mean longer"):
        FunctionJudge("rewards.functions.longr").check()
    with pytest.raises(InputError, match="longer_one has no argument ties; did you mean tie"):
        FunctionJudge("rewards.functions.longer_one", {"ties": 1}, batched=False).check()
