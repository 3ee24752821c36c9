import itertools
import math

import pytest
import torch
from theory.given import FLAT, MU, N, THETA, WORLD, apart

from lit_rlhf.credit.groups import GroupRelative
from lit_rlhf.errors import InputError
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.theory.boltzmann import kl, log_target, soft_value
from lit_rlhf.theory.closed_forms import rewards

TAU = 0.7
REWARD, BASE = FLAT.reward, FLAT.log_base
TARGET = log_target(REWARD, TAU, BASE)
VALUE = float(soft_value(REWARD, TAU, BASE))


@pytest.mark.parametrize("delta", [-5.0, -0.3, 0.0, 0.02])
def test_with_a_constant_the_law_is_stationary(delta):
    pi = rewards.with_constant(REWARD, TAU, VALUE + delta, MU, BASE)
    errors = TAU * (pi.log() - TARGET) + delta
    assert float(pi.sum()) == pytest.approx(1, abs=1e-12)
    assert apart(errors, (MU @ errors) * pi / MU) < 1e-10
    if delta <= 0:
        assert float(MU @ errors) <= 1e-12


def test_the_soft_value_is_the_constant_without_bias_and_so_is_any_on_the_target():
    assert apart(rewards.with_constant(REWARD, TAU, VALUE, MU, BASE), TARGET.exp()) < 1e-12
    assert apart(rewards.with_constant(REWARD, TAU, VALUE - 2, TARGET.exp(), BASE), TARGET.exp()) < 1e-12


def test_a_lower_constant_is_more_conservative_to_the_data():
    laws = [rewards.with_constant(REWARD, TAU, VALUE - delta, MU, BASE) for delta in (0, 1, 10, 100)]
    distances = [float(kl(MU.log(), law.log())) for law in laws]
    assert distances == sorted(distances, reverse=True) and distances[-1] < 1e-2 < distances[0]


def test_constants_without_an_answer_are_refused():
    with pytest.raises(InputError, match="too far above"):
        rewards.with_constant(REWARD, TAU, VALUE + 5, MU, BASE)
    with pytest.raises(InputError, match="leaves a response out"):
        rewards.with_constant(REWARD, TAU, VALUE, MU.index_fill(0, torch.tensor([1]), 0.0), BASE)


def test_quantiles_count_ties_half_and_average_one_half():
    base = torch.tensor([0.2, 0.3, 0.1, 0.4], dtype=torch.float64).log()
    found = rewards.quantiles(torch.tensor([1.0, 0.0, 1.0, 2.0], dtype=torch.float64), base)
    assert found.tolist() == pytest.approx([0.45, 0.15, 0.45, 0.8])
    assert float(base.exp() @ found) == pytest.approx(0.5)


@pytest.mark.parametrize("tau", [0.05, 1.0, 20.0])
def test_the_forward_kl_has_polynomial_tails(tau):
    pi = rewards.forward_kl(REWARD, tau, BASE)
    price = tau * BASE.exp() / pi + REWARD
    assert float(pi.sum()) == pytest.approx(1, abs=1e-12) and apart(price, price[0]) < 1e-10
    assert float(price[0]) > float(REWARD.max())


@pytest.mark.parametrize("std", [True, False])
def test_mean_advantages_of_a_group_are_those_of_the_credit_step(std):
    pi = THETA.softmax(-1)
    groups = GroupRelative(std)(FLAT.groups(pi, 3)).rollout
    drawn = groups.sequences.completion_ids
    advantage = segment_sum(groups.advantages, groups.sequences.completion_lengths)
    total = torch.zeros(N, dtype=torch.float64).index_add(0, drawn, groups.weight * advantage)
    mass = torch.zeros(N, dtype=torch.float64).index_add(0, drawn, groups.weight)
    assert apart(rewards.group_advantage(pi, REWARD, 3, std), total / mass) < 1e-12
    if not std:
        assert apart(total / mass, 2 / 3 * (REWARD - pi @ REWARD)) < 1e-12


def test_the_fixed_point_of_grpo_depends_on_the_size_of_groups():
    two, three = (rewards.grpo(REWARD, 1.5, BASE, size) for size in (2, 3))
    assert apart(two, three) > 1e-2
    for law, size in ((two, 2), (three, 3)):
        assert apart(law, rewards.forward_kl(rewards.group_advantage(law, REWARD, size), 1.5, BASE)) < 1e-12


@pytest.mark.parametrize("size", [2, 4])
def test_grpo_weighs_a_prompt_by_its_success_rate(size):
    for p in (0.1, 0.5, 0.8):
        law, success = torch.tensor([p, 1 - p], dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
        for std in (True, False):
            advantage = rewards.group_advantage(law, success, size, std, epsilon=1e-12)
            slope = law[0] * (advantage[0] - law @ advantage)
            gain = float(rewards.group_gain(law[0], size, std))
            assert float(slope) == pytest.approx(gain * p * (1 - p), rel=1e-9)
        assert float(rewards.group_gain(law[0], size, False)) == pytest.approx((size - 1) / size)
        mixed = float(rewards.group_gain(law[0], size, mixed=True)) * (1 - p**size - (1 - p) ** size)
        assert mixed == pytest.approx(float(rewards.group_gain(law[0], size)))
    many = rewards.group_gain(torch.tensor([0.3], dtype=torch.float64), 1000)
    assert float(many) == pytest.approx(1 / math.sqrt(0.21), rel=1e-2)


def test_off_policy_reinforce_needs_a_baseline_below_every_reward():
    law = rewards.off_policy_reinforce(REWARD, MU, float(REWARD.min()) - 1)
    assert apart(law / MU / (REWARD - REWARD.min() + 1), law[0] / MU[0] / (REWARD[0] - REWARD.min() + 1)) < 1e-14
    with pytest.raises(InputError, match="baseline"):
        rewards.off_policy_reinforce(REWARD, MU, float(REWARD.min()))


def test_exponential_weights_are_boltzmann_against_the_data_and_cut_ones_are_not():
    weight = (REWARD / TAU).exp()
    target = log_target(REWARD, TAU, MU.log()).exp()
    assert apart(rewards.weighted_likelihood(MU, weight), target) < 1e-14
    assert apart(rewards.weighted_likelihood(MU, weight.clamp_max(1.5)), target) > 1e-2


@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_best_of_n_is_what_enumeration_finds(number):
    reward, u = torch.tensor([[1.0, 0.0, 1.0, 2.0], [0.2, 0.3, 0.1, 0.4]], dtype=torch.float64)
    mass = torch.zeros(4, dtype=torch.float64)
    for drawn in itertools.product(range(4), repeat=number):
        best = [one for one in drawn if reward[one] == max(reward[list(drawn)])]
        for one in best:
            mass[one] += math.prod(u[list(drawn)].tolist()) / len(best)
    found = rewards.best_of(reward, number, u.log())
    assert apart(found, mass) < 1e-12
    assert float(kl(found.log(), u.log())) <= math.log(number) - (number - 1) / number + 1e-12
    twice = rewards.best_of(reward, number, found.log())
    assert apart(twice, rewards.best_of(reward, number**2, u.log())) < 1e-12


def test_contrasts_of_k_responses_are_boltzmann_in_alpha():
    assert apart(rewards.info_nca(WORLD.reward, 0.5, 0.6, BASE), log_target(WORLD.reward, 0.3, BASE).exp()) < 1e-14
    assert apart(rewards.nca(WORLD.reward, 0.6, BASE), log_target(WORLD.reward, 0.6, BASE).exp()) < 1e-14
