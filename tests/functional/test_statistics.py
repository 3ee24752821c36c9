"""Intervals and pass@k against enumeration and closed forms."""

import itertools
import math

import pytest
import torch

from lit_rlhf.functional.statistics import mean_estimate, pass_at_k, share_estimate

Z = 1.959963984540054  # the 97.5 % point of the normal law


@pytest.mark.parametrize("n", [1, 2, 5])
def test_pass_at_k_is_the_share_of_draws_of_k_with_a_right_one(n):
    for right, k in itertools.product(range(n + 1), range(1, n + 1)):
        draws = list(itertools.combinations(range(n), k))
        expected = sum(min(draw) < right for draw in draws) / len(draws)
        found = pass_at_k(torch.tensor([right]), torch.tensor([n]), k)
        assert float(found) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_of_fewer_than_k_completions_is_not_known():
    found = pass_at_k(torch.tensor([1, 0, 2]), torch.tensor([1, 2, 9]), 3)
    assert found.isnan().tolist() == [True, True, False]


def test_pass_at_k_is_unbiased():
    """The mean over n Bernoulli(q) completions is 1 - (1 - q)^k."""
    n, k, q = 6, 3, 0.3
    right = torch.arange(n + 1)
    law = torch.tensor([math.comb(n, c) * q**c * (1 - q) ** (n - c) for c in range(n + 1)], dtype=torch.float64)
    assert float(law @ pass_at_k(right, torch.full((n + 1,), n), k)) == pytest.approx(1 - (1 - q) ** k, abs=1e-12)


def test_a_mean_is_the_ratio_of_the_sums():
    found = mean_estimate(torch.tensor([2.0, 9.0, 5.0]), torch.tensor([1.0, 3.0, 0.0]))
    assert found.value == pytest.approx(11 / 4) and found.prompts == 2
    assert found.low == pytest.approx(2.0) and found.high == pytest.approx(3.0)  # the means of the two prompts


def test_the_interval_of_a_mean_is_that_of_the_normal_law_for_many_prompts():
    values = torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = mean_estimate(values, torch.ones(4000))
    half = Z * float(values.std()) / math.sqrt(4000)
    assert found.low == pytest.approx(found.value - half, abs=0.1 * half)
    assert found.high == pytest.approx(found.value + half, abs=0.1 * half)


def test_completions_of_a_prompt_are_not_independent():
    """Ten equal completions of every prompt say no more than one."""
    values = torch.randn(50, generator=torch.Generator().manual_seed(2))
    one, ten = mean_estimate(values, torch.ones(50)), mean_estimate(10 * values, torch.full((50,), 10.0))
    assert (one.low, one.high) == pytest.approx((ten.low, ten.high))


def test_the_bootstrap_draws_by_its_own_seed():
    values, weight = torch.arange(9.0), torch.ones(9)
    before = torch.random.get_rng_state()
    assert mean_estimate(values, weight) == mean_estimate(values, weight)
    assert mean_estimate(values, weight, seed=1) != mean_estimate(values, weight)
    assert torch.equal(before, torch.random.get_rng_state())


def test_few_prompts_have_no_interval():
    one, none = mean_estimate(torch.tensor([3.0]), torch.ones(1)), mean_estimate(torch.ones(1), torch.zeros(1))
    assert one.value == 3.0 and math.isnan(one.low) and math.isnan(one.high)
    assert none.prompts == 0 and math.isnan(none.value)


def test_an_interval_of_a_share_is_wilsons():
    """Its ends are where |p - q| = z sqrt(q (1 - q) / n)."""
    found = share_estimate(torch.tensor([1.0] * 7 + [0.0] * 3))
    assert found.value == pytest.approx(0.7) and 0 < found.low < 0.7 < found.high < 1
    for end in (found.low, found.high):
        assert abs(found.value - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / 10), rel=1e-9)


def test_a_share_of_all_still_has_a_width():
    found = share_estimate(torch.ones(20))
    assert found.high == 1.0 and found.low == pytest.approx(20 / (20 + Z**2))


def test_ties_everywhere_have_none():
    found = share_estimate(torch.full((20,), 0.5))
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_means_of_several_trials_are_known_better():
    """Every prompt's share the mean of two trials, independent: as many trials as there are."""
    single = share_estimate(torch.tensor([1.0, 1.0, 0.0, 0.0] * 2))
    double = share_estimate(torch.tensor([1.0, 0.5, 0.5, 0.0]))  # the variance is half of p (1 - p)
    assert (double.low, double.high) == pytest.approx((single.low, single.high))


def test_shares_that_are_not_known_are_left_out():
    assert share_estimate(torch.tensor([1.0, torch.nan, 0.0])) == share_estimate(torch.tensor([1.0, 0.0]))
    assert share_estimate(torch.tensor([torch.nan])).prompts == 0
