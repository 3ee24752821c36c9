import dataclasses

import pytest
import torch
from losses.given import PROMPT_OF, bandit, double, evidence, gradient, log_ratios, pairs, scored, total

from lit_rlhf.errors import InputError
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.types import PreferenceBatch, every_pair

TAU = 0.7


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_rda_by_a_loop(reduce, reference):
    seen, batch = evidence(reference), pairs()
    ratio = log_ratios(seen, reduce)
    columns = (batch.chosen, batch.rejected, batch.reward_gap, batch.weight)
    expected = sum(
        weight * (TAU * (ratio[w] - ratio[l]) - gap) ** 2 / 2
        for w, l, gap, weight in zip(*(x.tolist() for x in columns), strict=True)
    )
    assert total(RDA(TAU, reduce), seen, batch) == pytest.approx(expected)


def test_rda_without_gaps_says_so():
    with pytest.raises(InputError, match="reward_gap"):
        RDA()(evidence(), pairs(reward_gap=None))


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
def test_the_gradient_is_tau_times_the_laplacian_of_the_residual(tau, prior):
    draw = torch.Generator().manual_seed(3)
    reward, logits, other = (torch.randn(5, generator=draw, dtype=torch.float64) for _ in range(3))
    rho = torch.rand(5, 5, generator=draw, dtype=torch.float64).fill_diagonal_(0)
    theta, reference = logits.requires_grad_(), None if prior else other.softmax(0)
    seen, group = bandit(theta, reference, list(range(5)), reward)
    first, second = (rho > 0).nonzero(as_tuple=True)
    gap = reward[first] - reward[second]
    batch = PreferenceBatch(group.sequences, first, second, torch.ones_like(gap), gap, rho[first, second])
    (found,) = torch.autograd.grad(RDA(tau)(seen, batch).terms[0].total, theta)
    d = tau * (theta.detach() - (0 if prior else reference.log())) - reward
    expected = [tau * sum((rho[j, k] + rho[k, j]) * (d[j] - d[k]) for k in range(5)).item() for j in range(5)]
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_group_variance_is_half_the_sample_variance_times_k():
    seen, batch = evidence(), scored()
    g = [TAU * ratio - reward for ratio, reward in zip(log_ratios(seen), batch.reward.tolist(), strict=True)]
    expected = 0.0
    for prompt in range(4):
        mine = [k for k in range(9) if PROMPT_OF[k] == prompt]
        middle = sum(g[k] for k in mine) / len(mine)
        expected += sum(batch.weight[k].item() * len(mine) / (2 * (len(mine) - 1)) * (g[k] - middle) ** 2 for k in mine)
    assert total(GroupVariance(TAU), seen, batch) == pytest.approx(expected)


def test_group_variance_is_the_mean_of_rda_over_the_pairs_of_a_group():
    seen, batch = evidence(), scored(weighted=False).select(torch.tensor([1, 3, 7]))
    part = dataclasses.replace(
        seen, policy=type(seen.policy)(seen.policy.values[[3, 8, 9, 18, 19, 20]]), reference=None
    )
    part.policy.values.detach().nan_to_num_(-1.0)
    mean_of_pairs = total(RDA(TAU), part, every_pair(batch.sequences, batch.reward)) / 3
    assert total(GroupVariance(TAU), part, batch) / 3 == pytest.approx(mean_of_pairs / 2)


@pytest.mark.parametrize("prior", [True, False])
def test_on_its_own_samples_it_is_tau_times_leave_one_out_reinforce(prior):
    draw = torch.Generator().manual_seed(4)
    reward, theta, other = (torch.randn(6, generator=draw, dtype=torch.float64) for _ in range(3))
    theta.requires_grad_()
    seen, batch = bandit(theta, None if prior else other.softmax(0), [4, 1, 1, 0, 5, 2, 4], reward)

    def slope(head):
        return torch.autograd.grad(head(seen, batch).terms[0].total, theta, retain_graph=True)[0]

    assert torch.allclose(slope(GroupVariance(TAU)), TAU * slope(PolicyGradient(TAU)), rtol=1e-10, atol=1e-12)


def test_a_prompt_with_one_response_is_refused():
    with pytest.raises(InputError, match="GroupVariance compares.*two or more"):
        GroupVariance()(evidence(), scored(weight=double([1, 0, 1, 0, 1, 1, 1, 1, 1])))


def test_extreme_log_ratios_have_finite_gradients():
    seen = evidence()
    with torch.no_grad():
        seen.policy.values[[1, 5]] = double([-1e4, 1e4])
    assert (
        torch.isfinite(gradient(RDA(), seen, pairs())).all()
        and torch.isfinite(gradient(GroupVariance(), seen, scored())).all()
    )
