"""Tokens by inversion against a cumulative sum of everything; the law by counting."""

import numpy as np
import pytest
import torch

from lit_rlhf.sampling.drawing import joined, pick, uniforms
from lit_rlhf.sampling.processing import Processing

SIZES = [1, 5, 256, 257, 1000]


def logits(rows, vocabulary, spread=2.0):
    return spread * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(3))


def numbers(rows):
    return torch.rand(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("vocabulary", SIZES)
def test_the_token_at_which_the_cumulative_law_passes_the_number(vocabulary):
    given, uniform = logits(200, vocabulary), numbers(200)
    drawn = pick(given, Processing(), uniform)
    ends = given.double().softmax(-1).cumsum(-1)
    before = torch.where(drawn.tokens > 0, ends.gather(1, (drawn.tokens - 1).clamp_min(0)[:, None])[:, 0], 0.0)
    assert (before <= uniform + 1e-6).all() and (uniform <= ends.gather(1, drawn.tokens[:, None])[:, 0] + 1e-6).all()
    exact = given.log_softmax(-1).gather(1, drawn.tokens[:, None])[:, 0]
    torch.testing.assert_close(drawn.behaviour, exact, atol=2e-6, rtol=0)
    assert drawn.policy is drawn.behaviour and drawn.kept is None


@pytest.mark.parametrize("vocabulary", SIZES)
def test_the_ends_of_the_interval(vocabulary):
    given = logits(2, vocabulary)
    given[:, 0] = given[:, -1] = -torch.inf if vocabulary > 2 else 0.0
    ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
    possible = given[0].isfinite().nonzero()[:, 0]
    given[1] = given[0]
    assert pick(given, Processing(), ends).tokens.tolist() == [int(possible[0]), int(possible[-1])]


def test_one_certain_token_anywhere():
    for place in (0, 255, 256, 511, 512, 599):
        given = torch.full((1, 600), -torch.inf)
        given[0, place] = -1000.0
        drawn = pick(given, Processing(), numbers(1))
        assert drawn.tokens.tolist() == [place] and drawn.behaviour.tolist() == [0.0]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 4, "temperature": 1.5}, {"top_p": 0.7}], ids=str)
def test_counts_follow_the_law(options):
    vocabulary, n = 12, 20_000
    one = logits(1, vocabulary, spread=1.0)
    drawn = pick(one.expand(n, -1), Processing(**options), numbers(n))
    left = list(range(vocabulary)) if drawn.kept is None else drawn.kept.ids[: int(drawn.kept.lengths[0])].tolist()
    law = torch.zeros(vocabulary, dtype=torch.float64)
    law[left] = (one[0, left].double() / options.get("temperature", 1.0)).softmax(-1)
    counts = torch.bincount(drawn.tokens, minlength=vocabulary)
    assert not counts[law == 0].any()
    chi_square = float(((counts - n * law) ** 2 / (n * law))[law > 0].sum())
    freedom = int((law > 0).sum()) - 1
    assert chi_square < freedom + 6 * (2 * freedom) ** 0.5  # six deviations above the mean of chi-square
    torch.testing.assert_close(drawn.behaviour, law.log()[drawn.tokens].float(), atol=2e-6, rtol=0)
    torch.testing.assert_close(drawn.policy, one.log_softmax(-1)[0, drawn.tokens], atol=2e-6, rtol=0)


def test_the_likeliest_token_needs_no_number():
    given = logits(20, 300)
    drawn = pick(given, Processing(temperature=0.0, top_k=3), numbers(20))
    assert torch.equal(drawn.tokens, given.argmax(-1)) and drawn.kept is None
    torch.testing.assert_close(drawn.behaviour, given.log_softmax(-1).amax(-1))


def test_a_set_of_everything_is_stored_as_none():
    given = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    kept = pick(given, Processing(min_p=0.5), numbers(2)).kept
    assert kept.lengths.tolist() == [0, 1] and kept.ids.tolist() == [0]


def test_rows_of_parts_are_the_rows_of_the_whole():
    given, uniform, law = logits(9, 300), numbers(9), Processing(top_p=0.6)
    whole = pick(given, law, uniform)
    parts = joined([pick(given[rows], law, uniform[rows]) for rows in (slice(0, 2), slice(2, 9))])
    assert torch.equal(parts.tokens, whole.tokens) and torch.equal(parts.kept.ids, whole.kept.ids)
    chosen = whole.select(torch.tensor([4, 1]))
    assert torch.equal(chosen.tokens, whole.tokens[[4, 1]]) and torch.equal(chosen.kept.lengths, whole.kept.lengths[[4, 1]])


def test_numbers_belong_to_a_completion():
    own = uniforms(1, 2, 3, 4, 5)
    assert np.array_equal(uniforms(1, 2, 3, 4, 9)[:5], own) and ((own >= 0) & (own < 1)).all()
    others = [uniforms(*key, 5) for key in ((0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0))]
    assert not any(np.intersect1d(own, other).size for other in others)
