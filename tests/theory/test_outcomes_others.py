"""Outcome 13: the real heads that converge to no pi^tau of the reward end where the closed forms say."""

import dataclasses
import math

import pytest
import torch
from theory.given import FLAT, MU, N, P, RHO, THETA, WORLD, apart, random_law
from torch import Tensor

from lit_rlhf.credit.groups import GroupRelative
from lit_rlhf.functional.udrra import quantile_partition
from lit_rlhf.losses import links
from lit_rlhf.losses.base import AgainstBehaviour, LossHead
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.divergences import AlphaDivergence, ForwardKL, JensenShannon, ReverseKL
from lit_rlhf.losses.listwise import NCA
from lit_rlhf.losses.policy import ClippedSurrogate
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.regularisers import KLPenalty, OpponentLikelihood
from lit_rlhf.losses.unpaired import Origin, UnpairedPRA
from lit_rlhf.theory import residual as exact
from lit_rlhf.theory.boltzmann import log_target, soft_value
from lit_rlhf.theory.closed_forms import margins, preferences, rewards, saturating
from lit_rlhf.theory.worlds import World, minimised, slope
from lit_rlhf.types import Observation, PreferenceBatch

OWN = exact.bradley_terry(WORLD.reward)
REFERENCE_PAIRS = exact.independent(WORLD.log_base.exp())


def from_boltzmann(law: Tensor, world: World = WORLD) -> float:
    """Nats by which log pi misses log u + r/tau + constant, least squares over tau, for u the reference or 1."""
    regressors = torch.stack([world.reward, torch.ones_like(world.reward)], 1)
    log_ratios = torch.stack([law.clamp_min(1e-300).log(), law.clamp_min(1e-300).log() - world.log_base], 1)
    fitted = regressors @ torch.linalg.lstsq(regressors, log_ratios).solution
    return float((log_ratios - fitted).square().mean(0).sqrt().min())


def test_the_measure_finds_what_is_boltzmann():
    assert from_boltzmann(log_target(WORLD.reward, 0.37, WORLD.log_base).exp()) < 1e-12
    assert from_boltzmann(log_target(WORLD.reward, 2.1).exp()) < 1e-12


# ---- labels


def test_ipo_ends_at_the_win_rate():
    tau = 0.4
    found = minimised(PRA(tau, links.Squared()), WORLD, WORLD.pairs(exact.independent(MU))).softmax(-1)
    assert apart(found, (WORLD.log_base + preferences.win_rate(OWN, MU) / tau).softmax(-1)) < 1e-8
    assert from_boltzmann(found) > 1e-2
    for law, p in ((RHO, P), (random_law(80, N, N), OWN)):
        other = minimised(PRA(tau, links.Squared()), WORLD, WORLD.pairs(law, p)).softmax(-1)
        assert apart(other, preferences.ipo(law, p, tau, WORLD.log_base)) < 1e-8


def test_on_line_ipo_ends_at_the_regularised_equilibrium():
    for p in (OWN, P):
        law, head = preferences.regularised_nash(p, 0.3, WORLD.log_base), PRA(0.3, links.Squared())
        there, elsewhere = (
            slope(head, at.log(), WORLD, WORLD.pairs(exact.independent(at), p)) for at in (law, WORLD.log_base.exp())
        )
        assert float(there.norm()) < 1e-12 < 1e-2 < float(elsewhere.norm())
        assert apart(law, (WORLD.log_base + preferences.win_rate(p, law) / 0.3).softmax(-1)) < 1e-12
        assert from_boltzmann(law) > 1e-3


def test_labels_that_no_reward_explains_end_at_the_best_fit():
    found = minimised(PRA(0.5), WORLD, WORLD.pairs(RHO, P)).softmax(-1)
    assert apart(found, preferences.zermelo(RHO, P, 0.5, WORLD.log_base)) < 1e-7
    assert apart(found, preferences.zermelo(random_law(81, N, N), P, 0.5, WORLD.log_base)) > 1e-3


FIRST = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)


def one_pair(p: float) -> World:
    """Two responses, the first preferred with probability p."""
    base = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    return World(torch.tensor([math.log(p / (1 - p)), 0.0], dtype=torch.float64), base)


@pytest.mark.parametrize("p", [0.6, 0.9])
@pytest.mark.parametrize(
    ("link", "smoothing", "expected", "tolerance"),
    [
        (links.Logistic(0.7), 0.0, lambda p: margins.simpo(p, 0.7), 1e-7),
        (links.Logistic(), 0.1, lambda p: margins.smoothed(p, 0.1), 1e-7),
        (links.EXO(), 0.1, lambda p: margins.exo_hard(p, 0.1), 1e-5),
        (links.Squared(), 0.0, margins.ipo, 1e-8),
    ],
    ids=["simpo", "cdpo", "exo", "ipo"],
)
def test_of_one_pair_the_margin_is_known(p, link, smoothing, expected, tolerance):
    lengths = torch.tensor([3, 1])
    pair = dataclasses.replace(one_pair(p), lengths=lengths)
    batch = pair.pairs(FIRST, labels="drawn")
    law = minimised(PRA(0.8, link, "mean", label_smoothing=smoothing), pair, batch).softmax(-1)
    assert apart(law, margins.pair_law(expected(p), 0.8, pair.log_base, lengths)) < tolerance
    assert abs(expected(p) - math.log(p / (1 - p))) > 0.03


def test_no_temperature_turns_margins_of_one_pair_into_rewards():
    for margin in (lambda p: margins.simpo(p, 0.7), lambda p: margins.exo_hard(p, 0.1), margins.hinge, margins.ipo):
        ratios = [margin(p) / math.log(p / (1 - p)) for p in (0.6, 0.9)]
        assert abs(ratios[0] / ratios[1] - 1) > 0.1


@pytest.mark.parametrize("p", [0.6, 0.95])
def test_slic_sees_the_direction_of_a_preference_only(p):
    pair, tau = one_pair(p), 0.8
    for label in (p, 1 - p):
        batch = pair.pairs(FIRST, torch.full((2, 2), label, dtype=torch.float64))
        sides = [
            slope(PRA(tau, links.Hinge()), margins.pair_law(h, tau, pair.log_base).log(), pair, batch)[0]
            for h in (margins.hinge(label) - 1e-6, margins.hinge(label) + 1e-6)
        ]
        assert sides[0] < 0 < sides[1]


@pytest.mark.parametrize(
    "head", [PRA(0.5, links.Logistic(0.7)), PRA(0.5, links.EXO(), label_smoothing=0.1), PRA(0.5, links.Squared())],
    ids=["simpo", "exo", "ipo"],
)
def test_of_all_pairs_no_temperature_makes_it_boltzmann(head):
    law = minimised(head, WORLD, WORLD.pairs(RHO, labels="drawn"), WORLD.log_base).softmax(-1)
    assert from_boltzmann(law) > 1e-2


def test_soft_labels_keep_exo_at_the_target():
    law = minimised(PRA(0.5, links.EXO()), WORLD, WORLD.pairs(RHO), WORLD.log_base).softmax(-1)
    assert apart(law, log_target(WORLD.reward, 0.5, WORLD.log_base).exp()) < 1e-6


def test_an_offset_by_the_gap_lowers_the_temperature():
    law = minimised(PRA(0.8, offset=0.5), WORLD, WORLD.pairs(RHO)).softmax(-1)
    assert apart(law, log_target(1.5 * WORLD.reward, 0.8, WORLD.log_base).exp()) < 1e-7


@pytest.mark.parametrize("divergence", [JensenShannon(), ForwardKL(), AlphaDivergence(0.5)])
def test_other_divergences_have_other_targets(divergence):
    law = minimised(PRA(0.8, divergence=divergence), WORLD, WORLD.pairs(RHO), WORLD.log_base).softmax(-1)
    assert apart(law, rewards.f_divergence(WORLD.reward, 0.8, WORLD.log_base, divergence)) < 1e-7
    assert from_boltzmann(law) > 1e-3
    own = rewards.f_divergence(WORLD.reward, 0.8, WORLD.log_base, ReverseKL())
    assert apart(own, log_target(WORLD.reward, 0.8, WORLD.log_base).exp()) < 1e-12


def test_noise_contrast_of_pairs_ends_at_twice_the_win_rate():
    found = minimised(PRA(1.0, links.NCAPair()), WORLD, WORLD.pairs(REFERENCE_PAIRS, P)).softmax(-1)
    assert apart(found, preferences.nca_pair(P, WORLD.log_base)) < 1e-7
    assert from_boltzmann(preferences.nca_pair(OWN, WORLD.log_base)) > 1e-3


def test_noise_contrast_of_responses_of_the_reference_is_boltzmann_in_alpha():
    copies = torch.tensor([3, 1, 2, 1, 1, 4])
    world = dataclasses.replace(WORLD, log_base=(copies / copies.sum()).double().log())
    batch = world.scored().select(torch.arange(N).repeat_interleave(copies))
    found = minimised(NCA(1.0, 0.7), world, batch).softmax(-1)
    assert apart(found, rewards.nca(WORLD.reward, 0.7, world.log_base)) < 1e-7


# ---- losses that saturate


def escaped(head: LossHead, batch, **evidence) -> Tensor:
    return minimised(head, WORLD, batch, WORLD.log_base, **evidence).softmax(-1)


def test_apo_zero_puts_all_mass_where_win_rates_exceed_one_half():
    worth = saturating.apo_zero_worth(RHO, OWN)
    law = escaped(PRA(0.5, links.APOZero()), WORLD.pairs(RHO))
    assert apart(law, saturating.saturated(worth, 0.5, WORLD.log_base)) < 1e-4
    assert float(law[worth <= 0].sum()) < 1e-4 and from_boltzmann(law) > 1e-2


@pytest.mark.parametrize("anchor", [0.0, 0.3])
def test_kto_puts_all_mass_on_what_is_desirable_on_balance(anchor):
    label = torch.sigmoid(WORLD.reward - WORLD.reward @ MU)
    worth = saturating.kto_worth(MU, label, 1.0, 1.2)
    held = (Observation(torch.full((N, 1), anchor, dtype=torch.float64), MU),)
    law = escaped(UnpairedPRA(0.5, undesirable=1.2), WORLD.scored(MU, label), observed=held)
    assert apart(law, saturating.saturated(worth, 0.5, WORLD.log_base, anchor)) < 1e-4
    assert float(law[label * 1.0 <= (1 - label) * 1.2].sum()) < 1e-4 and from_boltzmann(law) > 1e-2


def test_the_anchor_of_kto_ends_at_zero():
    label = torch.sigmoid(WORLD.reward - WORLD.reward @ MU)
    theta, batch, head = WORLD.log_base, WORLD.scored(MU, label), UnpairedPRA(0.5)
    for _ in range(400):
        theta = theta - 20 * slope(head, theta, WORLD, batch)
    there = saturating.saturated(saturating.kto_worth(MU, label), 0.5, WORLD.log_base)
    assert float(MU @ (theta.log_softmax(-1) - WORLD.log_base)) < 0
    assert apart(theta.softmax(-1), there) < 1e-2
    assert apart(escaped(UnpairedPRA(0.5, anchor=Origin()), batch), there) < 1e-4


# ---- rewards, with another constant than V*


@pytest.mark.parametrize("constant", [-1.0, 0.2])
def test_ra_with_a_constant_below_the_soft_value_is_conservative(constant):
    assert constant < float(soft_value(WORLD.reward, 0.7, WORLD.log_base))
    batch = WORLD.scored(MU, WORLD.reward - constant)
    law = minimised(RA(0.7, "none"), WORLD, batch, THETA).softmax(-1)
    assert apart(law, rewards.with_constant(WORLD.reward, 0.7, constant, MU, WORLD.log_base)) < 1e-6
    assert from_boltzmann(law) > 1e-3
    gradient = slope(PolicyGradient(0.7, "none"), law.log(), WORLD, batch)
    assert float(gradient.norm()) < 1e-6


def test_mean_rewards_and_the_constant_of_sppo_are_such_constants():
    drawn = WORLD.rollout(WORLD.log_base.exp(), torch.arange(N)[None])
    tau, even = 0.7, WORLD.uniform
    mean = minimised(AgainstBehaviour(RA(tau, "mean_reward")), WORLD, drawn).softmax(-1)
    average = float(WORLD.reward.mean())
    assert apart(mean, rewards.with_constant(WORLD.reward, tau, average, even, WORLD.log_base)) < 1e-6
    worth = preferences.win_rate(OWN, even)
    against = dataclasses.replace(WORLD, reward=worth).rollout(even, torch.arange(N)[None])
    half = minimised(AgainstBehaviour(RA(tau, "half")), WORLD, against).softmax(-1)
    assert apart(half, rewards.with_constant(worth, tau, 0.5, even, even.log())) < 1e-6
    assert abs(float(soft_value(worth, tau, even.log())) - 0.5) <= 1 / (8 * tau)
    assert apart(half, log_target(worth, tau).exp()) < 1 / (8 * tau)


def test_sppo_on_given_pairs_regresses_on_win_rates():
    tau = 0.7
    found = minimised(PRA(tau, links.SPPO()), WORLD, WORLD.pairs(exact.independent(MU), P)).softmax(-1)
    worth = preferences.win_rate(P, MU)
    assert apart(found, rewards.with_constant(worth, tau, 0.5, MU, WORLD.log_base)) < 1e-6


def test_quantiles_have_a_known_constant_that_is_that_of_infinitely_many():
    tau, even = 0.7, WORLD.uniform
    world = dataclasses.replace(WORLD, log_base=even.log())
    worth = rewards.quantiles(WORLD.reward, world.log_base)
    ideal = log_target(worth, tau, world.log_base)
    found = minimised(RA(tau, "quantile"), world, world.scored(), ideal).softmax(-1)
    constant = float(quantile_partition(tau))
    assert constant - float(soft_value(worth, tau, world.log_base)) == pytest.approx(0, abs=1e-2)
    assert apart(found, rewards.with_constant(worth, tau, constant, even, world.log_base)) < 1e-6
    assert apart(found, ideal.exp()) < 1e-2 < from_boltzmann(found)


# ---- rollouts


def test_reinforce_off_policy_ends_at_the_reward_weighted_data():
    baseline = float(FLAT.reward.min()) - 0.2
    law = rewards.off_policy_reinforce(FLAT.reward, MU, baseline)
    gradient = slope(PolicyGradient(0.0, "none"), law.log(), FLAT, FLAT.scored(MU, FLAT.reward - baseline))
    assert float(gradient.norm()) < 1e-12
    assert from_boltzmann(law) > 1e-2


@pytest.mark.parametrize("std", [True, False], ids=["GRPO", "Dr. GRPO"])
def test_a_k3_loss_is_the_other_kl(std):
    tau, size = 1.5, 2
    head = ClippedSurrogate(average="sequence") + tau * KLPenalty("k3", "sequence")
    law = rewards.grpo(FLAT.reward, tau, FLAT.log_base, size) if std else rewards.forward_kl(
        (size - 1) / size * FLAT.reward, tau, FLAT.log_base
    )

    def gradient(theta: Tensor) -> Tensor:
        return slope(head, theta, FLAT, GroupRelative(std)(FLAT.groups(theta.softmax(-1), size)).rollout)

    theta = FLAT.log_base
    for _ in range(150):
        theta = theta - 2 * gradient(theta)
    assert apart(theta.softmax(-1), law) < 1e-6
    assert float(gradient(law.log()).norm()) < 1e-12
    assert from_boltzmann(law) > 1e-3


def test_xpo_is_displaced_in_proportion_to_its_bonus():
    tau, log_base = 0.8, FLAT.log_base

    def remaining(alpha: float) -> float:
        law = preferences.exploring(FLAT.reward, tau, alpha, log_base)
        first, second = torch.cartesian_prod(torch.arange(N), torch.arange(N)).unbind(1)
        drawn = FLAT.rollout(law, torch.stack([first, second], 1))
        drawn = dataclasses.replace(drawn, opponent=torch.tensor([False, True]).repeat(N * N))
        own = 2 * torch.arange(N * N)
        batch = PreferenceBatch(
            drawn.sequences, own, own + 1, OWN[first, second], weight=law[first] * log_base.exp()[second], drawn=drawn
        )
        return float(slope(PRA(tau) + alpha * OpponentLikelihood(), law.log(), FLAT, batch).norm())

    assert remaining(0.0) < 1e-15
    assert remaining(2e-3) / remaining(1e-3) == pytest.approx(4, rel=0.1)
    moved = preferences.exploring(FLAT.reward, tau, 0.02, log_base)
    assert apart(moved, log_target(FLAT.reward, tau, log_base).exp()) > 1e-3
