import dataclasses

import pytest
import torch
from credit.given import (
    FINISHED,
    LENGTHS,
    OWNER,
    REWARD,
    TOKENS,
    TRAINED,
    UNTRAINED,
    WEIGHT,
    double,
    metric,
    rollout,
    tokens_of,
)

from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.credit.temporal import GAE, RewardToGo
from lit_rlhf.errors import InputError

TOKEN_REWARD = torch.linspace(-1.0, 1.0, TOKENS, dtype=torch.float64)
COUNTED_REWARD = [0.0 if weight == 0 else reward for reward, weight in zip(REWARD, WEIGHT, strict=True)]


def by_definition(given, gamma, lam, bootstrap):
    """Token -> A_t; tokens of weight 0 take no time."""
    found = {}
    for k in range(len(LENGTHS)):
        places = tokens_of(k)
        values = [given.values[t].item() for t in places]
        rewards = [0.0 if given.token_reward is None else given.token_reward[t].item() for t in places]
        rewards[-1] += COUNTED_REWARD[k]
        following = [*values[1:], values[-1] if bootstrap and not FINISHED[k] else 0.0]
        advantage = 0.0
        for t, reward, value, after in reversed(list(zip(places, rewards, values, following, strict=True))):
            advantage = reward + gamma * after - value + gamma * lam * advantage
            found[t] = advantage
    return found


@pytest.mark.parametrize("bootstrap", [False, True])
@pytest.mark.parametrize("token_reward", [None, TOKEN_REWARD])
def test_gae_by_a_double_loop(bootstrap, token_reward):
    given = rollout(token_reward=token_reward)
    done = GAE(0.9, 0.7, bootstrap)(given).rollout
    expected = by_definition(given, 0.9, 0.7, bootstrap)
    for t in TRAINED:
        assert done.advantages[t].item() == pytest.approx(expected[t])
        assert done.returns[t].item() == pytest.approx(expected[t] + given.values[t].item())
    assert not done.advantages[list(UNTRAINED)].any() and not done.returns[list(UNTRAINED)].any()


def test_tokens_of_weight_zero_change_nothing_for_the_others():
    given = rollout(token_reward=TOKEN_REWARD)
    rest = torch.tensor(TRAINED)
    short = dataclasses.replace(
        given.sequences, completion_ids=given.sequences.completion_ids[rest], weight=None,
        completion_lengths=torch.bincount(torch.tensor(OWNER)[rest]),
    )
    fields = ("behaviour", "reference", "values", "token_reward")
    alone = dataclasses.replace(given, sequences=short, **{name: getattr(given, name)[rest] for name in fields})
    for step in (GAE(0.9, 0.7), GAE(bootstrap_truncated=True), RewardToGo(0.9)):
        assert torch.equal(step(given).rollout.advantages[rest], step(alone).rollout.advantages)


def test_a_completion_of_nothing_but_untrained_tokens_has_no_time():
    weight = rollout().sequences.weight.clone()
    weight[-3:] = 0.0
    given = rollout()
    given = dataclasses.replace(given, sequences=dataclasses.replace(given.sequences, weight=weight))
    for step in (GAE(bootstrap_truncated=True), RewardToGo()):
        done = step(given).rollout
        assert bool(done.advantages.isfinite().all()) and not done.advantages[-3:].any()


def test_reward_to_go_is_return_and_advantage():
    done = RewardToGo(0.5)(rollout()).rollout
    assert done.advantages is done.returns
    for k, reward in enumerate(COUNTED_REWARD):
        places = tokens_of(k)
        expected = [reward * 0.5 ** (len(places) - 1 - t) for t in range(len(places))]
        assert done.returns[places].tolist() == pytest.approx(expected)


def test_at_gamma_one_the_first_token_returns_the_reward_with_the_whole_kl():
    given = KLInReward(0.3)(rollout()).rollout
    done = RewardToGo()(given).rollout
    for k, reward in enumerate(COUNTED_REWARD):
        places = tokens_of(k)
        ratio = sum((given.behaviour[t] - given.reference[t]).item() for t in places)
        assert done.returns[places[0]].item() == pytest.approx(reward - 0.3 * ratio)


def test_explained_variance_of_a_perfect_critic_is_one_and_of_a_constant_zero():
    returns = RewardToGo()(rollout()).rollout.returns
    assert metric(GAE(lam=1.0)(rollout(values=returns)), "explained_variance") == pytest.approx(1.0)
    flat = GAE(lam=1.0)(rollout(values=torch.full_like(returns, 0.3)))
    assert metric(flat, "explained_variance") == pytest.approx(0.0, abs=1e-12)


def test_what_is_missing_or_out_of_range_is_refused():
    with pytest.raises(InputError, match="GAE reads the critic's values.*give the composition a critic"):
        GAE()(rollout(values=None))
    with pytest.raises(InputError, match="bootstrap_truncated asks what was cut"):
        GAE(bootstrap_truncated=True)(rollout(finished=None))
    with pytest.raises(InputError, match=r"GAE.lam is 1.5; it is a number from 0 to 1"):
        GAE(lam=1.5)
    with pytest.raises(InputError, match=r"RewardToGo.gamma is -1"):
        RewardToGo(gamma=-1)


def test_the_argument_is_left_as_it_was():
    given = rollout(token_reward=TOKEN_REWARD.clone(), advantages=double([1.0] * TOKENS))
    GAE()(given)
    assert torch.equal(given.token_reward, TOKEN_REWARD) and given.advantages.tolist() == [1.0] * TOKENS
