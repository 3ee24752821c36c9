"""Rewards of how a response is written."""

import math

import pytest
from rewards.given import response, texts

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.maths import MathAnswer
from lit_rlhf.rewards.reviews import ReviewReward
from lit_rlhf.rewards.text import CosineLength, LengthPenalty, Matches, RepetitionPenalty, Tags


def of(reward, *found):
    return reward(texts(*found)).total.tolist()


def long(tokens, text="", **rest):
    return response(text, ids=range(tokens), **rest)


def test_patterns():
    assert of(Matches("o+k"), "no", "ok", "a look", "OK") == [0.0, 1.0, 1.0, 0.0]
    assert of(Matches("o+k", full=True, ignore_case=True), "OK", " ok\n", "look") == [1.0, 1.0, 0.0]
    assert of(Matches("a.b", right=0.5, wrong=-2.0), "a\nb", "ab") == [0.5, -2.0]
    with pytest.raises(InputError, match=r"Matches.pattern: '\(' is no regular expression"):
        Matches("(")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("<think>a</think><answer>b</answer>", 1.0),
        ("\n<think>a\nb</think>\n<answer>c</answer>\n", 1.0),
        ("<think></think><answer></answer>", 1.0),
        ("<answer>b</answer><think>a</think>", 0.0),
        ("<think>a</think>", 0.0),
        ("<think>a</think><answer>b", 0.0),
        ("<think>a</think> so <answer>b</answer>", 0.0),
        ("<think>a</think><answer>b</answer> and", 0.0),
        ("<think>a</think><think>a</think><answer>b</answer>", 0.0),
        ("<think>a<answer>b</answer></think>", 0.0),
        ("<think><think>a</think><answer>b</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_tags_stand_once_and_in_order(text, right):
    assert of(Tags(), text) == [right]
    if text.startswith("<think>"):
        assert of(Tags(begun=True), text.removeprefix("<think>")) == [right]


def test_other_tags_and_what_follows_them():
    assert of(Tags(["plan", "do"]), "<plan>a</plan> <do>b</do>") == [1.0]
    assert of(Tags(("think",), open_end=True), "<think>a</think> 42", "42") == [1.0, 0.0]
    with pytest.raises(InputError, match="each once"):
        Tags(("think", "think"))


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1, 0), (80, 0), (81, -1 / 20), (90, -1 / 2), (100, -1), (101, -1), (500, -1)]
)
def test_the_penalty_of_length_is_equation_13_of_dapo(tokens, expected):
    assert LengthPenalty(100, 20)([long(tokens)]).total.item() == pytest.approx(expected)
    assert LengthPenalty(100, 20, scale=3.0)([long(tokens)]).total.item() == pytest.approx(3 * expected)


def test_the_penalty_of_length_needs_room():
    for cache in (0, 101):
        with pytest.raises(InputError, match=f"LengthPenalty.cache is {cache}, expected 1 to max_tokens=100"):
            LengthPenalty(100, cache)


def test_repeated_runs():
    assert of(RepetitionPenalty(2), "a b c d", "a b A b", "a", "") == pytest.approx([0, -1 / 3, 0, 0])
    assert of(RepetitionPenalty(1, scale=4.0), "a a a a") == [-3.0]
    tokens = RepetitionPenalty(2, of="tokens")
    assert tokens([response("a b c", ids=(7, 7, 7, 7))]).total.item() == pytest.approx(-2 / 3)
    with pytest.raises(InputError, match="expected 1 or more"):
        RepetitionPenalty(0)


def test_length_by_a_cosine():
    reward = CosineLength(MathAnswer(), 100, right=(2.0, 1.0), wrong=(-4.0, -2.0), cut=-7.0)
    given = [long(n, text, answer="1") for text in ("1", "2") for n in (0, 50, 100, 300)]
    found = reward([*given, long(100, "1", answer="1", finished=False)])
    assert found.total.tolist() == pytest.approx([2, 1.5, 1, 1, -4, -3, -2, -2, -7])
    assert [part.name for part in found.parts] == ["raw", "answered"]
    assert found.parts[0].values.tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 1]
    assert reward.name == "maths" and reward.verifiable
    quarter = reward([long(25, "1", answer="1")]).total.item()
    assert quarter == pytest.approx(1 + (1 + math.sqrt(0.5)) / 2)
    with pytest.raises(InputError, match="ReviewReward does not say right or wrong"):
        CosineLength(ReviewReward(), 100)
