import math

import pytest
import torch
from losses.given import PROMPT_OF, bandit, double, evidence, gradient, log_ratios, scored, softplus, total

from lit_rlhf.errors import InputError
from lit_rlhf.losses.listwise import NCA, InfoNCA
from lit_rlhf.losses.pra import PRA
from lit_rlhf.types import PreferenceBatch

TAU, ALPHA = 0.7, 0.4


def softmax(values):
    mass = sum(math.exp(v) for v in values)
    return [math.exp(v) / mass for v in values]


def groups():
    return [[k for k in range(9) if PROMPT_OF[k] == prompt] for prompt in range(4)]


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_info_nca_by_a_loop(reduce, reference):
    seen, batch = evidence(reference), scored()
    s, rewards = [TAU * ratio for ratio in log_ratios(seen, reduce)], batch.reward.tolist()
    expected = 0.0
    for own in groups():
        label, model = softmax([rewards[k] / ALPHA for k in own]), softmax([s[k] for k in own])
        expected -= sum(
            batch.weight[k].item() * len(own) * p * math.log(q) for k, p, q in zip(own, label, model, strict=True)
        )
    assert total(InfoNCA(TAU, ALPHA, reduce), seen, batch) == pytest.approx(expected)


def test_nca_by_a_loop():
    seen, batch = evidence(), scored()
    s, rewards = [TAU * ratio for ratio in log_ratios(seen)], batch.reward.tolist()
    expected = 0.0
    for own in groups():
        label = softmax([rewards[k] / ALPHA for k in own])
        for k, p in zip(own, label, strict=True):
            expected += batch.weight[k].item() * len(own) * (p * softplus(-s[k]) + softplus(s[k]) / len(own))
    assert total(NCA(TAU, ALPHA), seen, batch) == pytest.approx(expected)


def test_of_two_responses_with_a_cold_label_info_nca_is_dpo():
    seen, batch = evidence(), scored(weighted=False)
    two = [k for k in range(9) if PROMPT_OF[k] != 0]
    chosen, rejected = double([2, 0, 4]).long(), double([5, 6, 8]).long()
    swap = batch.reward[rejected] > batch.reward[chosen]
    batch_of_two = scored(weight=double([float(k in two) for k in range(9)]))
    pairs = PreferenceBatch(
        batch_of_two.sequences,
        torch.where(swap, rejected, chosen),
        torch.where(swap, chosen, rejected),
        torch.ones(3).double(),
    )
    assert total(InfoNCA(TAU, 1e-3), seen, batch_of_two) / 2 == pytest.approx(total(PRA(TAU), seen, pairs))


def slope_at(head, theta, reference, reward):
    theta = theta.clone().requires_grad_()
    seen, batch = bandit(theta, reference, list(range(len(theta))), reward)
    return torch.autograd.grad(head(seen, batch).terms[0].total, theta)[0]


def test_info_nca_s_target_is_at_the_product_of_the_temperatures():
    draw = torch.Generator().manual_seed(9)
    reward, other = (torch.randn(5, generator=draw, dtype=torch.float64) for _ in range(2))
    reference = other.softmax(0)
    slope = slope_at(InfoNCA(TAU, ALPHA), reference.log() + reward / (ALPHA * TAU), reference, reward)
    assert slope.abs().max() < 1e-12
    assert slope_at(InfoNCA(TAU, ALPHA), reference.log() + reward / TAU, reference, reward).abs().max() > 1e-3


def test_nca_with_many_samples_of_the_reference_has_the_target_at_alpha():
    """As many samples of u as u says: K softmax(r/alpha)_k is e^{r/alpha} / E_u e^{r/alpha}, as of infinitely many."""
    counts = torch.tensor([4, 3, 2, 1])
    reference, reward = counts / counts.sum().double(), double([0.3, -0.2, 0.9, 0.1])
    theta = (reference.log() + reward / ALPHA).requires_grad_()
    drawn = torch.repeat_interleave(torch.arange(4), counts).tolist()
    seen, batch = bandit(theta, reference, drawn, reward)
    (slope,) = torch.autograd.grad(NCA(1.0, ALPHA)(seen, batch).terms[0].total, theta)
    assert slope.abs().max() < 1e-12


def test_a_prompt_with_one_response_is_refused():
    for head in (InfoNCA(), NCA()):
        with pytest.raises(InputError, match=f"{type(head).__name__} compares.*two or more"):
            head(evidence(), scored(weight=double([1, 0, 1, 0, 1, 1, 1, 1, 1])))


def test_a_temperature_of_rewards_is_positive():
    with pytest.raises(InputError, match="InfoNCA.alpha is 0"):
        InfoNCA(alpha=0)


def test_extremes_have_finite_gradients():
    for head in (InfoNCA(1.0, 1e-4), NCA(1.0, 1e-4)):
        seen = evidence()
        with torch.no_grad():
            seen.policy.values[[1, 5]] = double([-1e4, 1e4])
        assert math.isfinite(total(head, seen, scored())) and torch.isfinite(gradient(head, seen, scored())).all()
