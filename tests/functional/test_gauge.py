import math

import pytest
import torch

from lit_rlhf.functional.gauge import target_gauge


def drawn(seed, prompts, samples, scale):
    """Errors of `samples` draws for each prompt, from a normal law of this deviation: KL = scale^2 / 2 exactly."""
    draw = torch.Generator().manual_seed(seed)
    error = scale * torch.randn(prompts * samples, generator=draw, dtype=torch.float64)
    return error, torch.arange(prompts).repeat_interleave(samples)


def test_two_samples_by_hand():
    gauge = target_gauge(torch.tensor([1.0, 3.0]), torch.tensor([0, 0]), 1)
    assert gauge.second_order.item() == pytest.approx(((1 - 2) ** 2 + (3 - 2) ** 2) / 1 / 2)
    assert gauge.exponential.item() == pytest.approx(math.log((math.exp(1) + math.exp(-1)) / 2))
    weights = (math.exp(-1), math.exp(-3))
    assert gauge.effective.item() == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights))


def test_a_constant_of_the_prompt_drops_out():
    error, group = drawn(0, 3, 4, 1.0)
    one, other = (target_gauge(error + shift[group], group, 3) for shift in (torch.zeros(3), torch.tensor([5.0, -2.0, 100.0])))
    for name in ("second_order", "exponential", "effective"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_a_prompt_with_one_sample_has_no_estimate():
    gauge = target_gauge(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 1, 1]), 3)
    assert gauge.size.tolist() == [1, 2, 0]
    assert gauge.second_order.isnan().tolist() == [True, False, True]


@pytest.mark.parametrize("samples", [2, 8])
def test_the_second_order_estimate_of_a_normal_law_has_no_bias(samples):
    error, group = drawn(1, 20_000, samples, 0.8)
    found = target_gauge(error, group, 20_000).second_order
    assert abs(found.mean() - 0.8**2 / 2) < 4 * found.std() / math.sqrt(20_000)


def test_the_exponential_estimate_is_biased_down_and_the_more_the_fewer_the_samples():
    true = 1.5**2 / 2
    few, many = (target_gauge(*drawn(2, 4000, samples, 1.5), 4000).exponential.mean() for samples in (4, 64))
    assert few < many < true
    assert many > 0.9 * true


def test_where_all_errors_are_equal_the_policy_is_at_its_target():
    gauge = target_gauge(torch.full((6,), 2.5), torch.arange(2).repeat_interleave(3), 2)
    torch.testing.assert_close(gauge.second_order, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(gauge.exponential, torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(gauge.effective, torch.full((2,), 3.0, dtype=torch.float64))
