"""Advantages that differ between the tokens of a completion."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lit_rlhf.credit.base import Credited, CreditStep
from lit_rlhf.credit.counting import Timeline, own, own_token_weight
from lit_rlhf.credit.statistics import moments
from lit_rlhf.errors import InputError
from lit_rlhf.functional import advantages as ragged
from lit_rlhf.functional.value import explained_variance
from lit_rlhf.losses.base import Metric
from lit_rlhf.types import Rollout


@dataclass(frozen=True)
class GAE(CreditStep):
    """A_t = sum_l (gamma lam)^l delta_{t+l}, delta_t = r_t + gamma V_{t+1} - V_t; returns are A + V.

    See "High-Dimensional Continuous Control Using Generalized Advantage Estimation" by Schulman et al.
    (https://arxiv.org/abs/1506.02438), equation 16. Tokens of weight 0 are skipped in time.

    Args:
        gamma: discount of a token; at 1, a KL in the reward has the exact posterior as its target.
        lam: 1 is unbiased whatever the critic, 0 has the least variance.
        bootstrap_truncated: what a completion cut at the greatest length would still have received is taken to be the
            critic's value before its last token; otherwise nothing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"values"})
    gives: ClassVar[frozenset[str]] = frozenset({"advantages", "returns"})

    gamma: float = 1.0
    lam: float = 0.95
    bootstrap_truncated: bool = False

    def __post_init__(self) -> None:
        refuse_no_rate(self, "gamma", "lam")

    def __call__(self, rollout: Rollout) -> Credited:
        time = Timeline.of(rollout)
        if rollout.values is None:
            raise InputError("GAE reads the critic's values, and this rollout has none; give the composition a critic")
        values = rollout.values[time.tokens]
        after = self.after(rollout, values, time.lengths) if self.bootstrap_truncated else None
        found = ragged.gae(token_rewards(rollout, time), values, time.lengths, self.gamma, self.lam, after)
        advantages, returns = time.back(found), time.back(found + values)
        credited = dataclasses.replace(rollout, advantages=advantages, returns=returns)
        return Credited(credited, (explained(credited),))

    def after(self, rollout: Rollout, values: Tensor, lengths: Tensor) -> Tensor:
        """[S] V after the last token: 0 of finished completions, V before their last token of others."""
        if rollout.finished is None:
            raise InputError("GAE.bootstrap_truncated asks what was cut, and this rollout does not say; set it to false")
        last = torch.cat([values, values.new_zeros(1)])[(lengths.cumsum(0) - 1).clamp_min(0)]
        return torch.where(rollout.finished | (lengths == 0), 0.0, last)


@dataclass(frozen=True)
class RewardToGo(CreditStep):
    """A_t = R_t = sum_l gamma^l r_{t+l}: what followed token t. Tokens of weight 0 are skipped in time.

    See "Simple statistical gradient-following algorithms for connectionist reinforcement learning" by Williams (1992).

    Args:
        gamma: discount of a token.
    """

    gives: ClassVar[frozenset[str]] = frozenset({"advantages", "returns"})

    gamma: float = 1.0

    def __post_init__(self) -> None:
        refuse_no_rate(self, "gamma")

    def __call__(self, rollout: Rollout) -> Credited:
        time = Timeline.of(rollout)
        returns = time.back(ragged.reward_to_go(token_rewards(rollout, time), time.lengths, self.gamma))
        return Credited(dataclasses.replace(rollout, advantages=returns, returns=returns))


def refuse_no_rate(step: CreditStep, *names: str) -> None:
    """Raises: InputError: an argument outside [0, 1]."""
    for name in names:
        if not 0 <= getattr(step, name) <= 1:
            raise InputError(f"{type(step).__name__}.{name} is {getattr(step, name)}; it is a number from 0 to 1")


def token_rewards(rollout: Rollout, time: Timeline) -> Tensor:
    """[n] r_t of the tokens that take part; a sequence that does not count has reward 0."""
    reward = torch.where(own(rollout), rollout.reward, 0.0)
    given = None if rollout.token_reward is None else rollout.token_reward[time.tokens]
    return ragged.due_at_end(reward, time.lengths, given)


def explained(rollout: Rollout) -> Metric:
    """Share of the variance of the returns that the critic's values explain, over the tokens of all ranks."""
    weight, returns, values = own_token_weight(rollout), rollout.returns, rollout.values
    means = (moments(returns, weight).mean, moments(returns - values, weight).mean)
    return Metric("explained_variance", *explained_variance(values, returns, weight, *means))
