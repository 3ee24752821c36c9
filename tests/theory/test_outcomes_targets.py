"""Outcomes 7 to 12: which law the real heads converge to, and what it takes; `test_outcomes_others` has the others."""

import dataclasses
import math

import pytest
import torch
from theory.given import FLAT, MU, N, RHO, THETA, WORLD, apart, forms, random_law, random_logits, temperatures
from torch import Tensor

from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.bda import ExponentialWeight, PolicyGradient
from lit_rlhf.losses.listwise import InfoNCA
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.theory import boltzmann
from lit_rlhf.theory import residual as exact
from lit_rlhf.theory.boltzmann import kl, log_target, soft_value
from lit_rlhf.theory.closed_forms.preferences import data_ratio, implied_labels, smoothed, zermelo
from lit_rlhf.theory.worlds import World, expected_loss, minimised, slope
from lit_rlhf.types import Batch, PreferenceBatch

STARTS = [random_logits(seed) for seed in (40, 41, 42)]


def target(world: World, tau: float) -> Tensor:
    return log_target(world.reward, tau, world.log_base).exp()


# ---- 7: four families, one target


@temperatures
@forms
def test_every_family_arrives_at_the_same_law_from_anywhere(tau, world):
    base = world.uniform if world.log_base is None else world.log_base.exp()
    for head, batch in (
        (RA(tau, "exact"), world.scored(MU)), (RDA(tau), world.pairs(RHO)), (PRA(tau), world.pairs(RHO)),
        (PRA(tau), world.pairs(RHO, labels="drawn")), (GroupVariance(tau), world.scored()),
        (InfoNCA(tau), world.scored()), (ExponentialWeight(tau), world.scored(base)),
    ):
        for start in STARTS:
            assert apart(minimised(head, world, batch, start).softmax(-1), target(world, tau)) < 1e-6, head


@temperatures
@forms
def test_natural_policy_gradient_halves_the_residual_and_arrives_there_too(tau, world):
    for start in STARTS:
        theta, sizes = start, []
        for _ in range(30):
            sizes.append(float(exact.spread(exact.residual(theta, world.reward, tau, world.log_base))))
            gradient = slope(PolicyGradient(tau, "none"), theta, world, world.scored(theta.softmax(-1)))
            theta = theta - exact.pseudo_inverse(exact.fisher(theta.softmax(-1))) @ gradient / (2 * tau)
        assert sizes[20] / sizes[0] == pytest.approx(0.5**20, rel=1e-2)
        assert apart(theta.softmax(-1), target(world, tau)) < 1e-6


def test_a_learned_partition_becomes_the_log_partition():
    theta, z = THETA.clone().requires_grad_(), torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [theta, z], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = expected_loss(RA(0.7, "learned"), theta, WORLD, WORLD.scored(MU), log_partition=z)
        value.backward()
        return value

    optimizer.step(closure)
    assert apart(theta.detach().softmax(-1), target(WORLD, 0.7)) < 1e-6
    assert 0.7 * float(z.detach()) == pytest.approx(float(soft_value(WORLD.reward, 0.7, WORLD.log_base)), abs=1e-6)


# ---- 8: towards the best responses


@pytest.mark.parametrize("world", [WORLD.prior, WORLD, World(torch.tensor([1.0, 0.2, 1.0, -1.0], dtype=torch.float64))])
def test_a_low_temperature_leaves_the_best_responses_as_bounded(world):
    given, best = (world.reward, world.log_base), world.reward == world.reward.max()
    rewards = []
    for tau in (3.0, 1.0, 0.5, 0.2, 0.1, 0.03):
        law = target(world, tau)
        outside = boltzmann.outside_mass(world.reward, tau, world.log_base)
        assert abs(float(law[~best].sum()) - float(outside)) < 1e-12
        assert float(outside) <= float(boltzmann.outside_bound(world.reward, tau, world.log_base)) * (1 + 1e-12)
        rewards.append(float(law @ world.reward))
        regret = float(world.reward.max()) - rewards[-1]
        assert regret <= float(boltzmann.regret_bound(world.reward, tau, world.log_base))
    assert rewards == sorted(rewards) and rewards[-1] - rewards[0] > 0.1
    assert apart(target(world, 1e-4), boltzmann.log_optimum(*given).exp()) < 1e-12


# ---- 9: the pair law


def test_the_pair_law_moves_the_target_only_of_labels_that_no_reward_explains():
    laws = [RHO, random_law(50, N, N), exact.independent(MU), exact.independent(WORLD.uniform)]
    found = [minimised(PRA(0.5), WORLD, WORLD.pairs(law)).softmax(-1) for law in laws]
    blurred = [minimised(PRA(0.5, label_smoothing=0.1), WORLD, WORLD.pairs(law)).softmax(-1) for law in laws]
    labels = smoothed(exact.bradley_terry(WORLD.reward), 0.1)
    for law, one, other in zip(laws, found, blurred, strict=True):
        assert apart(one, target(WORLD, 0.5)) < 1e-7
        assert apart(other, zermelo(law, labels, 0.5, WORLD.log_base)) < 1e-7
    assert min(apart(blurred[i], blurred[j]) for i in range(4) for j in range(i)) > 1e-4


def test_a_noise_model_undoes_the_noise():
    noisy = WORLD.pairs(RHO, smoothed(exact.bradley_terry(WORLD.reward), 0.1))
    assert apart(minimised(PRA(0.5, flip_rate=0.1), WORLD, noisy).softmax(-1), target(WORLD, 0.5)) < 1e-7
    assert apart(minimised(PRA(0.5), WORLD, noisy).softmax(-1), target(WORLD, 0.5)) > 1e-2


# ---- 10: coverage


def without(*missing: int) -> Tensor:
    """The law of the data less some responses."""
    return MU.index_fill(0, torch.tensor(missing), 0.0) / (1 - float(MU[list(missing)].sum()))


def test_scores_identify_one_missing_response_and_not_two():
    tau, normalised = 0.7, WORLD.reward - float(soft_value(WORLD.reward, 0.7, WORLD.log_base))
    one, two = WORLD.scored(without(2), normalised), WORLD.scored(without(2, 4), normalised)
    ends = [[minimised(RA(tau, "none"), WORLD, batch, start).softmax(-1) for start in STARTS] for batch in (one, two)]
    for law in ends[0]:
        assert apart(law, target(WORLD, tau)) < 1e-5
    splits = [float(law[2] / (law[2] + law[4])) for law in ends[1]]
    assert min(abs(splits[i] - splits[j]) for i in range(3) for j in range(i)) > 1e-3
    for law in ends[1]:
        assert float(law[[2, 4]].sum()) == pytest.approx(float(target(WORLD, tau)[[2, 4]].sum()), abs=1e-5)


@pytest.mark.parametrize("head", [RDA(0.6), PRA(0.6)], ids=["rda", "pra"])
@pytest.mark.parametrize("start", [WORLD.log_base, THETA], ids=["from the reference", "from elsewhere"])
def test_components_between_which_there_is_no_pair_keep_their_logits(head, start):
    parts = torch.tensor([0, 0, 1, 1, 1, 2])
    inside = RHO * (parts[:, None] == parts)
    expected = exact.disconnected_limit(start, parts, WORLD.reward, 0.6, WORLD.log_base).exp()
    found = minimised(head, WORLD, WORLD.pairs(inside), start).softmax(-1)
    assert apart(found, expected) < 1e-6
    assert apart(found, target(WORLD, 0.6)) > 1e-2
    if start is WORLD.log_base:
        mean = torch.stack([WORLD.reward[parts == part].mean() for part in parts])
        assert apart(expected, (WORLD.log_base + (WORLD.reward - mean) / 0.6).softmax(-1)) < 1e-12


# ---- 11: one label, or a stream of them


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_one_certain_label_on_one_pair_lets_the_margin_grow_without_end(tau):
    pair = World(torch.zeros(2, dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64).log())
    certain = torch.tensor([[0.5, 1.0], [0.0, 0.5]], dtype=torch.float64)
    batch = pair.pairs(torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64), certain)

    def grown(h: float) -> float:
        return h + 2 * tau**2 / (1 + math.exp(h))

    theta, h = pair.log_base, 0.0
    for _ in range(200):
        theta, h = theta - slope(PRA(tau), theta, pair, batch), grown(h)
    assert tau * float(theta[0] - theta[1]) == pytest.approx(h, rel=1e-12)
    for _ in range(200, 200_000):
        h = grown(h)
    assert math.exp(h) + h == pytest.approx(2 * tau**2 * 2e5 + 1, rel=1e-3)
    assert math.exp(exact.fixed_label_margin(2e5, tau)) == pytest.approx(math.exp(h), rel=1e-3)
    assert 1 / (1 + math.exp(-h / tau)) > 0.999


def hard(world: World, generator: torch.Generator, repeats: int) -> PreferenceBatch:
    """Every pair so many times, with a drawn label each."""
    soft = world.pairs(exact.independent(world.uniform))
    keep = soft.chosen != soft.rejected
    first, second, p = (each[keep].repeat(repeats) for each in (soft.chosen, soft.rejected, soft.probability))
    won = torch.rand(len(p), generator=generator, dtype=torch.float64) < p
    chosen, rejected = torch.where(won, first, second), torch.where(won, second, first)
    return PreferenceBatch(soft.sequences, chosen, rejected, torch.ones_like(p))


def trained(head: LossHead, batches: list[Batch], steps: int, eta: float) -> Tensor:
    """log pi of the mean logits of the second half of gradient descent from the reference."""
    theta, total = WORLD.log_base, torch.zeros(N, dtype=torch.float64)
    for step in range(steps):
        theta = theta - eta * slope(head, theta, WORLD, batches[step % len(batches)])
        total += theta * (step >= steps // 2)
    return (total / (steps - steps // 2)).log_softmax(-1)


def test_streamed_labels_reach_the_target_and_one_fixed_label_per_pair_does_not():
    draw = torch.Generator().manual_seed(60)
    streamed = trained(PRA(1.0), [hard(WORLD, draw, 20) for _ in range(600)], 600, 2.0)
    fixed = [trained(PRA(1.0), [hard(WORLD, draw, 1)], 600, 2.0) for _ in range(6)]
    reference = log_target(WORLD.reward, 1.0, WORLD.log_base)
    assert float(kl(streamed, reference)) < 5e-3
    distances = [float(kl(law, reference)) for law in fixed]
    assert sum(distances) / len(distances) > 0.2 and min(distances) > 2e-2


def test_labels_of_another_reward_are_a_constant_force():
    labels = smoothed(exact.bradley_terry(WORLD.reward), 0.01)
    force = [
        slope(PRA(0.5), theta, WORLD, WORLD.pairs(RHO, labels)) - slope(PRA(0.5), theta, WORLD, WORLD.pairs(RHO))
        for theta in STARTS
    ]
    assert max(apart(one, force[0]) for one in force) < 1e-14 < float(force[0].norm())
    for tau in (0.5, 2.0):
        shift = exact.label_shift(RHO, WORLD.reward, labels)
        found = zermelo(RHO, labels, tau, WORLD.log_base)
        moved = (target(WORLD, tau).log() + shift / tau).softmax(-1)
        assert apart(found, moved) < 0.1 * apart(found, target(WORLD, tau))


# ---- 12: data design, refreshed references


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_independent_winners_and_losers_make_their_ratio_the_target(tau):
    winners, losers = random_law(70, N), random_law(71, N)
    density = torch.outer(winners, losers)
    batch = WORLD.pairs(density, implied_labels(density), labels="drawn")
    expected = data_ratio(winners, losers, tau, WORLD.log_base)
    assert apart(minimised(PRA(tau), WORLD, batch).softmax(-1), expected) < 1e-8
    matched = (losers.log() + WORLD.reward).softmax(-1)
    assert apart(data_ratio(matched, losers, tau, WORLD.log_base), target(WORLD, tau)) < 1e-12


@pytest.mark.parametrize("head", [RDA(0.8), PRA(0.8), RA(0.8, "exact")], ids=["rda", "pra", "ra"])
def test_rounds_that_refresh_the_reference_divide_the_temperature(head):
    world = FLAT
    for rounds in range(1, 5):
        batch = world.scored(MU) if isinstance(head, RA) else world.pairs(RHO)
        reached = minimised(head, world, batch, world.log_base).log_softmax(-1)
        expected = boltzmann.log_refreshed(FLAT.reward, 0.8, FLAT.log_base, rounds)
        assert apart(reached.exp(), expected.exp()) < 1e-7
        world = dataclasses.replace(world, log_base=reached)
