"""Filters against transformers' own, and their edges."""

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lit_rlhf.errors import InputError
from lit_rlhf.sampling import processing as module
from lit_rlhf.sampling.processing import Processing

B, V = 7, 501


def logits(spread=3.0):
    return spread * torch.randn(B, V, generator=torch.Generator().manual_seed(0))


def left(options, given):
    scaled = given / options.get("temperature", 1.0)
    return scaled >= Processing(**options).floor(scaled)[:, None]


def theirs(options, given):
    """What transformers leaves, in the order of its own `generate`."""
    made = [
        (TemperatureLogitsWarper, "temperature"), (TopKLogitsWarper, "top_k"), (TopPLogitsWarper, "top_p"),
        (MinPLogitsWarper, "min_p"),
    ]  # fmt: skip
    warpers = LogitsProcessorList([kind(options[name]) for kind, name in made if name in options])
    return warpers(torch.zeros(B, 1, dtype=torch.long), given.clone()).isfinite()


@pytest.mark.parametrize("spread", [0.01, 3.0, 30.0])
@pytest.mark.parametrize(
    "options",
    [
        {}, {"temperature": 0.6}, {"top_k": 1}, {"top_k": 40}, {"top_k": 10 * V}, {"top_p": 1e-6}, {"top_p": 0.5},
        {"top_p": 0.95}, {"min_p": 0.05}, {"top_k": 60, "top_p": 0.7}, {"temperature": 1.7, "top_p": 0.8, "min_p": 0.1},
        {"temperature": 0.8, "top_k": 100, "top_p": 0.9, "min_p": 0.02},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_left_is_what_transformers_leaves(options, spread):
    assert torch.equal(left(options, logits(spread)), theirs(options, logits(spread)))


def test_a_nucleus_wider_than_the_first_candidates(monkeypatch):
    wide = left({"top_p": 0.9}, logits(0.5))
    monkeypatch.setattr(module, "_CANDIDATES", 2)
    assert wide.sum(-1).min() > 16 and torch.equal(left({"top_p": 0.9}, logits(0.5)), wide)


def test_tokens_of_one_logit_stay_or_go_together():
    given = torch.tensor([[0.0, 1.0, 1.0, 1.0, -1.0]])
    for options in ({"top_k": 2}, {"top_p": 0.4}, {"min_p": 0.9}):
        assert left(options, given).tolist() == [[False, True, True, True, False]]


def test_impossible_tokens_are_not_left():
    given = torch.tensor([[0.0, -torch.inf, 1.0]])
    assert left({"top_p": 0.9999}, given).tolist() == left({"min_p": 1e-9}, given).tolist() == [[True, False, True]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"), ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"), ({"top_k": 0}, "top_k is 0"), ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"), ({"min_p": 1.0}, "min_p is 1.0"), ({"min_p": -0.1}, "min_p is -0.1"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_key(options, message):
    with pytest.raises(InputError, match=rf"^model\.sampler\.{message}; it is"):
        Processing(**options)


def test_what_a_setting_amounts_to():
    assert Processing().plain and Processing(top_p=1.0, min_p=0.0).plain
    assert not Processing(temperature=0.5).plain and not Processing(temperature=0.5).filters
    assert all(Processing(**one).filters for one in ({"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.1}))
    greedy = Processing(temperature=0.0, top_k=3)
    assert greedy.greedy and not greedy.filters and not greedy.plain
    assert str(Processing(0.5, top_p=0.9)) == "temperature 0.5, top_p 0.9" and "likeliest" in str(greedy)
