import math

import pytest
import torch

from lit_rlhf.functional import advantages
from lit_rlhf.functional.value import explained_variance

LENGTHS = torch.tensor([3, 1, 9, 0, 2, 16])
DRAW = torch.Generator().manual_seed(0)
TOKENS = int(LENGTHS.sum())
REWARDS, VALUES = (torch.randn(TOKENS, generator=DRAW, dtype=torch.float64) for _ in range(2))
AFTER = torch.randn(len(LENGTHS), generator=DRAW, dtype=torch.float64)

discounts = pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.7), (0.99, 1.0), (1.0, 0.0), (0.0, 0.5)])


def cut(values):
    return [part.tolist() for part in values.split(LENGTHS.tolist())]


def by_definition(gamma, lam, after):
    """A_t = sum_l (gamma lam)^l delta_{t+l}, two loops a sequence."""
    found = []
    for rewards, values, last in zip(cut(REWARDS), cut(VALUES), after, strict=True):
        following = [*values[1:], last]
        delta = [r + gamma * v_next - v for r, v, v_next in zip(rewards, values, following, strict=False)]
        found += [sum((gamma * lam) ** (m - t) * delta[m] for m in range(t, len(delta))) for t in range(len(delta))]
    return found


@discounts
def test_gae_by_its_definition(gamma, lam):
    ends = [0.0] * len(LENGTHS)
    assert advantages.gae(REWARDS, VALUES, LENGTHS, gamma, lam).tolist() == pytest.approx(by_definition(gamma, lam, ends))
    known = advantages.gae(REWARDS, VALUES, LENGTHS, gamma, lam, AFTER)
    assert known.tolist() == pytest.approx(by_definition(gamma, lam, AFTER.tolist()))


def test_gae_of_one_is_the_reward_to_go_less_the_value_and_of_zero_the_error_of_a_step():
    whole = advantages.gae(REWARDS, VALUES, LENGTHS, 0.9, 1.0)
    assert torch.allclose(whole, advantages.reward_to_go(REWARDS, LENGTHS, 0.9) - VALUES)
    following = torch.tensor([after for part in cut(VALUES) for after in ([*part[1:], 0.0] if part else [])], dtype=torch.float64)
    step = advantages.gae(REWARDS, VALUES, LENGTHS, 0.9, 0.0)
    assert torch.allclose(step, REWARDS + 0.9 * following - VALUES)


def test_a_critic_that_knows_everything_leaves_no_advantage():
    values = advantages.reward_to_go(REWARDS, LENGTHS, 0.9)
    assert float(advantages.gae(REWARDS, values, LENGTHS, 0.9, 0.95).abs().max()) < 1e-12


@pytest.mark.parametrize("gamma", [1.0, 0.9, 0.0])
def test_reward_to_go_is_a_discounted_sum(gamma):
    expected = [
        sum(gamma ** (m - t) * part[m] for m in range(t, len(part))) for part in cut(REWARDS) for t in range(len(part))
    ]
    assert advantages.reward_to_go(REWARDS, LENGTHS, gamma).tolist() == pytest.approx(expected)


def test_a_reward_falls_due_at_the_last_token_and_an_empty_sequence_has_none():
    reward = torch.arange(1.0, 7.0)
    expected = [k + 1.0 if t == length - 1 else 0.0 for k, length in enumerate(LENGTHS.tolist()) for t in range(length)]
    assert advantages.due_at_end(reward, LENGTHS).tolist() == expected
    both = advantages.due_at_end(reward.double(), LENGTHS, REWARDS)
    assert torch.allclose(both, REWARDS + torch.tensor(expected))


def test_nothing_at_all_is_no_error():
    none = torch.zeros(0)
    for found in (
        advantages.gae(none, none, torch.zeros(2, dtype=torch.long), 1.0, 0.9),
        advantages.due_at_end(torch.ones(2), torch.zeros(2, dtype=torch.long)),
    ):
        assert found.shape == (0,)


def test_group_relative_by_a_loop():
    values, group = torch.tensor([1.0, 5.0, 2.0, 6.0, -3.0]), torch.tensor([0, 2, 0, 2, 0])
    for epsilon in (1e-6, None):
        found = advantages.group_relative(values, group, 3, epsilon).tolist()
        for k, value in enumerate(values.tolist()):
            mates = values[group == group[k]].tolist()
            mean = sum(mates) / len(mates)
            std = math.sqrt(sum((mate - mean) ** 2 for mate in mates) / len(mates))
            assert found[k] == pytest.approx((value - mean) / (1.0 if epsilon is None else std + epsilon))


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("reward", [0.1, 1e4 / 3, -1e-7])
def test_equal_rewards_have_no_advantage_not_even_rounding_over_epsilon(size, reward):
    values, group = torch.full((size,), reward), torch.zeros(size, dtype=torch.long)
    assert not advantages.group_relative(values, group, 1).any()
    assert not advantages.leave_one_out(values, group, 1).any()


def test_win_rates_by_a_loop():
    reward, group = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64), torch.tensor([1, 0, 1, 3])
    other, theirs = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64), torch.tensor([1, 0, 1])
    found = advantages.win_rates(reward, group, other, theirs, 4, 0.5).tolist()
    for k in range(3):
        against = other[theirs == group[k]].tolist()
        wins = [1 / (1 + math.exp(-(reward[k].item() - o) / 0.5)) for o in against]
        assert found[k] == pytest.approx(sum(wins) / len(wins))
    assert math.isnan(found[3])


def test_explained_variance_adds_up_over_parts():
    weight = torch.rand(TOKENS, generator=DRAW, dtype=torch.float64)
    returns = VALUES + 0.5 * REWARDS
    means = [(weight * x).sum() / weight.sum() for x in (returns, returns - VALUES)]
    share = [sum(parts) for parts in zip(*(
        explained_variance(VALUES[part], returns[part], weight[part], *means) for part in (slice(0, 11), slice(11, None))
    ), strict=True)]

    def variance(x):
        return ((weight * x * x).sum() / weight.sum() - ((weight * x).sum() / weight.sum()) ** 2).item()

    assert (share[0] / share[1]).item() == pytest.approx(1 - variance(returns - VALUES) / variance(returns))
    total, whole = explained_variance(returns, returns, weight, means[0], torch.tensor(0.0))
    assert total.item() == pytest.approx(whole.item())
