import dataclasses
import math

import pytest
import torch
from losses.given import (
    LENGTHS,
    UNTRAINED,
    bandit,
    double,
    evidence,
    gradient,
    log_ratios,
    metric,
    pairs,
    sequences,
    sigmoid,
    softplus,
    token_weight,
    total,
    whole,
)

from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import Prior
from lit_rlhf.losses.links import EXO, SPPO, APOZero, Hinge, Logistic, Squared
from lit_rlhf.losses.pra import PRA, LengthDesensitised, PolicyWeighted
from lit_rlhf.types import Evidence, PreferenceBatch, Sequences, TokenLogps

TAU = 0.7


def rows(batch):
    return list(
        zip(*(x.tolist() for x in (batch.chosen, batch.rejected, batch.probability, batch.pair_weight)), strict=True)
    )


def logistic(margin, p):
    return p * softplus(-margin) + (1 - p) * softplus(margin)


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_soft_labels_on_any_graph_by_a_loop(reduce, reference):
    seen, batch = evidence(reference), pairs()
    ratio = log_ratios(seen, reduce)
    expected = sum(weight * logistic(TAU * (ratio[w] - ratio[l]), p) for w, l, p, weight in rows(batch))
    assert total(PRA(TAU, reduce=reduce), seen, batch) == pytest.approx(expected)


def test_simpo_is_the_prior_form_with_mean_log_probs_and_a_margin():
    seen, batch = evidence(), pairs(probability=torch.ones(6, dtype=torch.float64))
    mean = whole(seen.policy.values.detach(), reduce="mean")
    expected = sum(weight * softplus(-(2.0 * mean[w] - 2.0 * mean[l] - 0.5)) for w, l, _, weight in rows(batch))
    assert total(Prior(PRA(2.0, Logistic(margin=0.5), reduce="mean")), seen, batch) == pytest.approx(expected)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_ipo_s_tau_is_a_regulariser(reduce):
    seen, batch = evidence(), pairs(probability=torch.ones(6, dtype=torch.float64))
    ratio = log_ratios(seen, reduce)
    expected = sum(weight * (ratio[w] - ratio[l] - 1 / (2 * TAU)) ** 2 for w, l, _, weight in rows(batch))
    assert total(PRA(TAU, Squared(), reduce=reduce), seen, batch) == pytest.approx(expected)


def test_label_smoothing_is_cdpo():
    seen, batch, eps = evidence(), pairs(probability=torch.ones(6, dtype=torch.float64)), 0.15
    ratio = log_ratios(seen)
    expected = sum(
        weight * ((1 - eps) * softplus(-(m := TAU * (ratio[w] - ratio[l]))) + eps * softplus(m))
        for w, l, _, weight in rows(batch)
    )
    assert total(PRA(TAU, label_smoothing=eps), seen, batch) == pytest.approx(expected)


def test_the_noise_model_is_robust_dpo():
    seen, batch, eps = evidence(), pairs(probability=torch.ones(6, dtype=torch.float64)), 0.15
    ratio = log_ratios(seen)
    expected = sum(
        weight * ((1 - eps) * softplus(-(m := TAU * (ratio[w] - ratio[l]))) - eps * softplus(m)) / (1 - 2 * eps)
        for w, l, _, weight in rows(batch)
    )
    assert total(PRA(TAU, flip_rate=eps), seen, batch) == pytest.approx(expected)


@pytest.mark.parametrize("link", [None, Squared(), Hinge(), SPPO(), APOZero()], ids=lambda link: type(link).__name__)
def test_the_noise_model_is_unbiased_for_labels_flipped_at_its_rate(link):
    seen, eps = evidence(), 0.15
    clean = pairs()
    noisy = dataclasses.replace(clean, probability=(1 - 2 * eps) * clean.probability + eps)
    assert total(PRA(TAU, link, flip_rate=eps), seen, noisy) == pytest.approx(total(PRA(TAU, link), seen, clean))


def test_smoothing_and_the_noise_model_at_the_same_rate_undo_each_other():
    seen, batch = evidence(), pairs()
    assert total(PRA(TAU, label_smoothing=0.2, flip_rate=0.2), seen, batch) == pytest.approx(
        total(PRA(TAU), seen, batch)
    )


def test_an_offset_shifts_the_margin_by_the_gap():
    seen, batch = evidence(), pairs()
    ratio = log_ratios(seen)
    expected = sum(
        weight * logistic(TAU * (ratio[w] - ratio[l]) - 0.3 * gap, p)
        for (w, l, p, weight), gap in zip(rows(batch), batch.reward_gap.tolist(), strict=True)
    )
    assert total(PRA(TAU, offset=0.3), seen, batch) == pytest.approx(expected)
    assert PRA(offset=0.3).needs == {"policy", "chosen", "reward_gap"} and PRA().needs == {"policy", "chosen"}
    with pytest.raises(InputError, match="reads 'reward_gap'"):
        PRA(offset=0.3)(seen, pairs(reward_gap=None))


def test_exo_smooths_hard_labels_and_takes_soft_ones():
    seen, eps = evidence(), 0.1
    hard, soft = (
        pairs(probability=torch.ones(6, dtype=torch.float64)),
        pairs(probability=double([0.9, 0.3, 0.5, 0.8, 0.7, 0.65])),
    )
    ratio = log_ratios(seen)
    for batch, label, head in (
        (hard, [1 - eps] * 6, PRA(TAU, EXO(), label_smoothing=eps)),
        (soft, soft.probability, PRA(TAU, EXO())),
    ):
        expected = 0.0
        for (w, l, _, weight), p in zip(rows(batch), label, strict=True):
            q = sigmoid(TAU * (ratio[w] - ratio[l]))
            expected += weight * (q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)))
        assert total(head, seen, batch) == pytest.approx(float(expected))
    with pytest.raises(InputError, match="label is 0 or 1"):
        PRA(TAU, EXO())(seen, hard)
    filler = dataclasses.replace(
        soft, probability=double([0.9, 0.3, 0.5, 0.8, 1.0, 0.65]), weight=double([1, 1, 1, 1, 0, 1])
    )
    assert math.isfinite(total(PRA(TAU, EXO()), seen, filler))  # a label that does not count is not looked at


def test_enumerated_hard_labels_add_up_to_the_soft_label():
    seen, soft = evidence(), pairs(probability=double([0.9, 0.3, 0.5, 0.8, 0.7, 0.65]))
    one = dataclasses.replace(
        soft, probability=torch.ones(6, dtype=torch.float64), weight=soft.weight * soft.probability
    )
    two = dataclasses.replace(
        one, chosen=soft.rejected, rejected=soft.chosen, weight=soft.weight * (1 - soft.probability)
    )
    assert total(PRA(TAU), seen, one) + total(PRA(TAU), seen, two) == pytest.approx(
        total(PRA(TAU), seen, soft), abs=1e-12
    )
    assert torch.allclose(
        gradient(PRA(TAU), seen, one) + gradient(PRA(TAU), seen, two), gradient(PRA(TAU), seen, soft), atol=1e-12
    )


def tabular(theta, reference, rho, label):
    """Every ordered pair of the responses of a bandit, weighed by the pair law."""
    n = len(theta)
    seen, scored = bandit(theta, reference, list(range(n)), torch.zeros(n, dtype=torch.float64))
    first, second = (rho > 0).nonzero(as_tuple=True)
    return seen, PreferenceBatch(scored.sequences, first, second, label[first, second], weight=rho[first, second])


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("tau", [0.3, 1.0, 3.0])
def test_the_gradient_is_a_laplacian_of_the_residual(tau, prior):
    draw = torch.Generator().manual_seed(1)
    reward, logits, other = (torch.randn(5, generator=draw, dtype=torch.float64) for _ in range(3))
    theta = logits.requires_grad_()
    reference = None if prior else other.softmax(0)
    rho = torch.rand(5, 5, generator=draw, dtype=torch.float64).fill_diagonal_(0)
    label = torch.sigmoid(reward[:, None] - reward[None, :])
    seen, batch = tabular(theta, reference, rho, label)
    (found,) = torch.autograd.grad(PRA(tau)(seen, batch).terms[0].total, theta)
    base = torch.zeros(5, dtype=torch.float64) if prior else reference.log()
    d = tau * (theta.detach() - base) - reward
    for j in range(5):
        expected = 0.0
        for k in range(5):
            if k != j:
                h = (reward[j] - reward[k] + d[j] - d[k]).item()
                secant = (sigmoid(h) - label[j, k].item()) / (d[j] - d[k]).item()
                expected += tau * (rho[j, k] + rho[k, j]).item() * secant * (d[j] - d[k]).item()
        assert found[j].item() == pytest.approx(expected, rel=1e-9)


def test_the_target_is_a_stationary_point_of_soft_labels_and_not_of_smoothed_ones():
    draw = torch.Generator().manual_seed(2)
    reward, base = (
        torch.randn(5, generator=draw, dtype=torch.float64),
        torch.rand(5, generator=draw, dtype=torch.float64),
    )
    reference, tau = base / base.sum(), 0.4
    theta = (reference.log() + reward / tau).requires_grad_()
    rho = torch.rand(5, 5, generator=draw, dtype=torch.float64).fill_diagonal_(0)
    seen, batch = tabular(theta, reference, rho, torch.sigmoid(reward[:, None] - reward[None, :]))
    for head, there in ((PRA(tau), True), (PRA(tau, EXO()), True), (PRA(tau, label_smoothing=0.1), False)):
        (slope,) = torch.autograd.grad(head(seen, batch).terms[0].total, theta, retain_graph=True)
        assert (slope.abs().max() < 1e-12) == there


def test_ld_dpo_by_a_loop():
    seen, batch, alpha = evidence(), pairs(), 0.3
    ratio = (seen.policy.values.detach() - seen.reference).tolist()
    start = [sum(LENGTHS[:k]) for k in range(9)]
    weight = token_weight().tolist()

    def trained(k):
        return [t for t in range(start[k], start[k] + LENGTHS[k]) if t not in UNTRAINED]

    expected = 0.0
    for w, l, p, pair_weight in rows(batch):
        public = min(len(trained(w)), len(trained(l)))
        a, b = (
            sum(weight[t] * ratio[t] * (1 if i < public else alpha) for i, t in enumerate(trained(k))) for k in (w, l)
        )
        expected += pair_weight * logistic(TAU * (a - b), p)
    assert total(LengthDesensitised(TAU, alpha=alpha), seen, batch) == pytest.approx(expected)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_ld_dpo_with_alpha_1_is_dpo(reduce):
    seen, batch = evidence(), pairs()
    head = LengthDesensitised(TAU, reduce=reduce, alpha=1.0)
    assert total(head, seen, batch) == pytest.approx(total(PRA(TAU, reduce=reduce), seen, batch))
    assert torch.allclose(gradient(head, seen, batch), gradient(PRA(TAU, reduce=reduce), seen, batch))
    with pytest.raises(InputError, match="alpha is 1.5"):
        LengthDesensitised(alpha=1.5)


def test_wpo_weighs_pairs_by_how_likely_their_ends_are():
    seen, batch = evidence(), pairs()
    ratio, mean = log_ratios(seen), whole(seen.policy.values.detach() - seen.policy.collision, reduce="mean")
    likely = [math.exp(mean[w]) * math.exp(mean[l]) for w, l, _, _ in rows(batch)]
    expected = sum(
        weight * mass * logistic(TAU * (ratio[w] - ratio[l]), p)
        for (w, l, p, weight), mass in zip(rows(batch), likely, strict=True)
    )
    head = PolicyWeighted(PRA(TAU))
    assert total(head, seen, batch) == pytest.approx(expected)
    constant = dataclasses.replace(batch, weight=batch.weight * double(likely))
    found, expected = gradient(head, seen, batch), gradient(PRA(TAU), seen, constant)
    assert torch.allclose(found, expected)  # no gradient through the weight
    assert head.needs == {"policy", "collision", "chosen"}


def test_wpo_weighs_tokens_drawn_from_the_policy_1_on_average():
    probability = double([0.6, 0.3, 0.1])
    collision = probability.square().sum().log().expand(3)
    zeros, ones, every = torch.zeros(3).long(), torch.ones(3).long(), torch.arange(3)
    batch = PreferenceBatch(Sequences(zeros[:1], ones[:1], every, ones, zeros), zeros, every, torch.ones(3))
    seen = Evidence(TokenLogps(probability.log(), collision=collision))
    found = PolicyWeighted(PRA(TAU)).weighted(seen, batch).weight
    own = found[0].sqrt()  # of the pair of response 0 with itself
    assert own.item() == pytest.approx(0.6 / (0.6**2 + 0.3**2 + 0.1**2))
    assert float(probability @ (found / own)) == pytest.approx(1.0)
    with pytest.raises(InputError, match="collision=True"):
        PolicyWeighted(PRA(TAU))(Evidence(TokenLogps(probability.log())), batch)


def test_dpo_on_one_isolated_pair_has_the_margin_s_recursion():
    seen = Evidence(TokenLogps(double([-1.0, -2.0]).requires_grad_()), double([-1.5, -1.0]))
    batch = PreferenceBatch(
        sequences(False).select(torch.tensor([1, 5])), torch.tensor([0]), torch.tensor([1]), double([1.0])
    )
    h = TAU * (0.5 - -1.0)
    assert gradient(PRA(TAU), seen, batch).tolist() == pytest.approx([-TAU * sigmoid(-h), TAU * sigmoid(-h)])


def test_metrics_of_pairs():
    seen, batch = evidence(), pairs()
    ratio = log_ratios(seen)
    mass = sum(weight for *_, weight in rows(batch))
    found = {
        name: metric(PRA(TAU), seen, batch, name)
        for name in ("rewards/chosen", "rewards/rejected", "rewards/margin", "accuracy")
    }
    margins = [(TAU * (ratio[w] - ratio[l]), p, weight) for w, l, p, weight in rows(batch)]
    assert found["rewards/chosen"] == pytest.approx(
        sum(weight * TAU * ratio[w] for w, _, _, weight in rows(batch)) / mass
    )
    assert found["rewards/rejected"] == pytest.approx(
        sum(weight * TAU * ratio[l] for _, l, _, weight in rows(batch)) / mass
    )
    assert found["rewards/margin"] == pytest.approx(sum(weight * m for m, _, weight in margins) / mass)
    decided = [(m, p, weight) for m, p, weight in margins if p != 0.5]
    right = sum(weight for m, p, weight in decided if (m > 0) == (p > 0.5))
    assert found["accuracy"] == pytest.approx(right / sum(weight for *_, weight in decided))


@pytest.mark.parametrize("name", ["label_smoothing", "flip_rate"])
@pytest.mark.parametrize("rate", [-0.1, 0.5, 1.0])
def test_rates_outside_their_interval_are_refused(name, rate):
    with pytest.raises(InputError, match=rf"PRA.{name} is {rate}; it is a rate in \[0, 1/2\)"):
        PRA(**{name: rate})


def test_options_a_link_has_no_meaning_for_are_refused():
    with pytest.raises(InputError, match="flip_rate: EXO is not affine"):
        PRA(link=EXO(), flip_rate=0.1)
    with pytest.raises(InputError, match="offset: APOZero is no function of a margin"):
        PRA(link=APOZero(), offset=0.1)


def test_extreme_log_ratios_have_finite_gradients():
    for size in (1e4, -1e4):
        seen = evidence()
        with torch.no_grad():
            seen.policy.values[[1, 5]] = double([size, -size])
        assert (
            torch.isfinite(gradient(PRA(), seen, pairs())).all()
            and torch.isfinite(gradient(LengthDesensitised(), seen, pairs())).all()
        )
