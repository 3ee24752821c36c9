"""Outcomes 1 to 6: how losses are constructed. The real heads' gradients are Laplacians of one residual."""

import dataclasses

import pytest
import torch
from support import Bigram, FrozenBigram, random_sequences
from theory.given import FLAT, MU, N, RHO, THETA, WORLD, apart, forms, near, random_law, random_logits, temperatures
from torch import Tensor

from lit_rlhf.credit.base import credited
from lit_rlhf.credit.groups import LeaveOneOut
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.losses.base import LossHead, Prior
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.policy import Reinforce
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.theory import residual as exact
from lit_rlhf.theory.boltzmann import kl, log_target, objective, soft_value
from lit_rlhf.theory.worlds import expected_loss, minimised, slope
from lit_rlhf.types import Evidence, Rollout, ScoredBatch, every_pair

# ---- 1: one residual, four Laplacians


@temperatures
@forms
@pytest.mark.parametrize("seed", [10, 20, 30])
def test_every_gradient_is_a_laplacian_of_the_residual(tau, world, seed):
    theta, mu, rho = random_logits(seed), random_law(seed + 1, N), random_law(seed + 2, N, N)
    given = (world.reward, tau, world.log_base)
    own = world.scored(theta.softmax(-1))
    near(slope(PolicyGradient(tau, "none"), theta, world, own), exact.bda_gradient(theta, *given))
    near(slope(RA(tau, "exact"), theta, world, world.scored(mu)), exact.ra_gradient(theta, mu, *given))
    near(slope(RDA(tau), theta, world, world.pairs(rho)), exact.rda_gradient(theta, rho, *given))
    near(slope(PRA(tau), theta, world, world.pairs(rho)), exact.pra_gradient(theta, rho, *given))


@temperatures
@forms
def test_the_policy_gradient_is_that_of_the_objective_itself(tau, world):
    leaf = THETA.clone().requires_grad_()
    value = objective(leaf.log_softmax(-1), world.reward, tau, world.log_base)
    direct = -torch.autograd.grad(value, leaf)[0]
    near(slope(PolicyGradient(tau, "none"), THETA, world, world.scored(THETA.softmax(-1))), direct)


# ---- 2: on policy the families are collinear


@temperatures
@forms
def test_on_policy_no_constant_of_ra_matters_and_rda_is_twice_as_steep(tau, world):
    pi = THETA.softmax(-1)
    direction = exact.bda_gradient(THETA, world.reward, tau, world.log_base)
    for constant in (-3.0, 0.4, 7.0):
        shifted = world.scored(pi, world.reward - constant)
        near(slope(RA(tau, "none"), THETA, world, shifted), tau * direction, 1e-10)
    for partition in ("exact", "mean_reward", *(() if world.log_base is None else ("group",))):
        near(slope(RA(tau, partition), THETA, world, world.scored(pi)), tau * direction, 1e-10)
    own_pairs = world.pairs(exact.independent(pi))
    near(slope(RDA(tau), THETA, world, own_pairs), 2 * tau * direction, 1e-10)


@temperatures
@forms
def test_off_policy_the_constant_matters(tau, world):
    right, wrong = (
        slope(RA(tau, "none"), THETA, world, world.scored(MU, world.reward - constant))
        for constant in (0.0, 1.0)
    )
    assert float((right - wrong).norm()) > 1e-2 * float(right.norm())


# ---- 3: one group of samples through the heads of training


@temperatures
@pytest.mark.filterwarnings("ignore:the KL to the reference is")
@pytest.mark.parametrize("posterior", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_on_a_group_of_samples_group_variance_and_rda_are_leave_one_out_reinforce(tau, posterior, dtype):
    sequences = random_sequences(7, prompts=1, per_prompt=5)
    reward = torch.randn(5, generator=torch.Generator().manual_seed(8), dtype=dtype)
    policy, reference = Bigram().to(dtype), FrozenBigram()
    reference.bigram.to(dtype)
    evidence = Evidence(policy.token_logps(sequences), reference.token_logps(sequences) if posterior else None)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-6

    def mean_slope(head: LossHead, batch) -> Tensor:
        (term,) = head(evidence, batch).terms
        return torch.autograd.grad(term.total / batch.count(term.unit), policy.table, retain_graph=True)[0]

    direction = mean_slope(PolicyGradient(tau, "leave_one_out"), ScoredBatch(sequences, reward))
    near(mean_slope(GroupVariance(tau), ScoredBatch(sequences, reward)), tau * direction, tolerance)
    near(mean_slope(RDA(tau), every_pair(sequences, reward)), 2 * tau * direction, tolerance)
    if posterior:
        drawn = Rollout(sequences, evidence.policy.values.detach(), reward, evidence.reference)
        trained = credited(drawn, [KLInReward(tau), LeaveOneOut()]).rollout
        near(mean_slope(Reinforce(), trained), direction, tolerance)


# ---- 4: labels and forms


@temperatures
def test_dpo_over_enumerated_labels_is_pra_with_soft_labels(tau):
    drawn, known = WORLD.pairs(RHO, labels="drawn"), WORLD.pairs(RHO)
    losses = [float(expected_loss(PRA(tau), THETA, WORLD, batch)) for batch in (drawn, known)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    near(slope(PRA(tau), THETA, WORLD, drawn), slope(PRA(tau), THETA, WORLD, known), 1e-12)


@temperatures
def test_the_posterior_form_is_the_prior_form_of_a_shaped_reward(tau):
    shaped = dataclasses.replace(WORLD, reward=WORLD.reward + tau * WORLD.log_base)
    for head, batch, other in (
        (RDA(tau), WORLD.pairs(RHO), shaped.pairs(RHO)), (RA(tau, "exact"), WORLD.scored(MU), shaped.scored(MU)),
        (PolicyGradient(tau, "mean"), WORLD.scored(MU), shaped.scored(MU)),
        (GroupVariance(tau), WORLD.scored(), shaped.scored()),
    ):
        one, two = expected_loss(head, THETA, WORLD, batch), expected_loss(Prior(head), THETA, shaped, other)
        assert float(one) == pytest.approx(float(two), abs=1e-12)
        near(slope(head, THETA, WORLD, batch), slope(Prior(head), THETA, shaped, other), 1e-12)
    near(log_target(shaped.reward, tau), log_target(WORLD.reward, tau, WORLD.log_base), 1e-12)


# ---- 5: preferences on policy


@temperatures
@forms
def test_on_policy_pra_is_reinforce_by_true_less_implied_win_rates(tau, world):
    pi, p = THETA.softmax(-1), exact.bradley_terry(world.reward)
    advantage = exact.own_advantage(THETA, p, tau, world.log_base)
    assert float(pi @ advantage) == pytest.approx(0, abs=1e-14)
    reinforced = slope(PolicyGradient(0.0, "none"), THETA, world, world.scored(pi, advantage))
    near(slope(PRA(tau), THETA, world, world.pairs(exact.independent(pi))), reinforced, 1e-10)


def test_small_margins_make_preferences_a_quarter_of_differences():
    small = dataclasses.replace(WORLD.prior, reward=1e-4 * WORLD.reward)
    quarter = slope(RDA(1.0), 1e-4 * THETA, small, small.pairs(RHO)) / 4
    near(slope(PRA(1.0), 1e-4 * THETA, small, small.pairs(RHO)), quarter, 1e-6)
    pi = (1e-4 * THETA).softmax(-1)
    near(slope(PRA(1.0), 1e-4 * THETA, small, small.pairs(exact.independent(pi))),
         exact.bda_gradient(1e-4 * THETA, small.reward, 1.0) / 2, 1e-6)


# ---- 6: what must not reach the target


@pytest.mark.parametrize("tau", [0.8, 2.0])
def test_a_wrong_constant_off_policy_displaces_the_target_as_derived(tau):
    value, target = float(soft_value(FLAT.reward, tau, FLAT.log_base)), log_target(FLAT.reward, tau, FLAT.log_base)

    def reached(delta: float) -> Tensor:
        scored = FLAT.scored(MU, FLAT.reward - value - delta)
        return minimised(RA(tau, "none"), FLAT, scored, target).softmax(-1)

    assert apart(reached(0.0), target.exp()) < 1e-6
    errors = []
    for delta in (-2e-2, -1e-2, 1e-2):
        found, predicted = reached(delta), exact.displaced(MU, FLAT.reward, tau, delta, FLAT.log_base)
        shift = apart(found, target.exp())
        assert shift > 1e-4
        errors.append(apart(found, predicted))
        assert errors[-1] < shift / 10
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)


def test_a_wrong_constant_does_no_harm_where_the_data_are_of_the_target():
    tau = 0.8
    target = log_target(FLAT.reward, tau, FLAT.log_base)
    wrong = FLAT.scored(target.exp(), FLAT.reward - float(soft_value(FLAT.reward, tau, FLAT.log_base)) + 0.5)
    found = minimised(RA(tau, "none"), FLAT, wrong, THETA)
    assert float(kl(target, found.log_softmax(-1))) < 1e-12


@temperatures
def test_differentiating_through_the_sampler_biases_the_cross_entropy_alone(tau):
    theta = log_target(WORLD.reward, tau, WORLD.log_base).requires_grad_()
    pi = theta.softmax(-1)
    own = exact.independent(pi)
    p = exact.bradley_terry(WORLD.reward)
    normalised = WORLD.reward - soft_value(WORLD.reward, tau, WORLD.log_base)
    losses = {
        "ra": expected_loss(RA(tau, "none"), theta, WORLD, WORLD.scored(pi, normalised)),
        "rda": expected_loss(RDA(tau), theta, WORLD, WORLD.pairs(own)),
        "pra": expected_loss(PRA(tau), theta, WORLD, WORLD.pairs(own)),
    }
    entropy = (own * exact.preference_loss(p.logit(), p)).sum()
    losses["excess"] = losses["pra"] - entropy
    slopes = {name: float(torch.autograd.grad(loss, theta, retain_graph=True)[0].norm()) for name, loss in losses.items()}
    assert max(slopes["ra"], slopes["rda"], slopes["excess"]) < 1e-12 < 1e-3 < slopes["pra"]
