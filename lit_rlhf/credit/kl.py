"""The KL to the reference as part of the reward."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lit_rlhf.credit.base import Credited, CreditStep
from lit_rlhf.credit.counting import own_token_weight, own_weight
from lit_rlhf.credit.statistics import Moments, moments
from lit_rlhf.errors import InputError
from lit_rlhf.functional import kl
from lit_rlhf.functional.segment import counted, segment_sum
from lit_rlhf.losses.base import Metric
from lit_rlhf.losses.metrics import mean
from lit_rlhf.ranks import world_size
from lit_rlhf.types import Rollout

ROUNDING = 1e-5
"""Nats per token by which log-probs of the same model differ between two ways of computing them."""


class AdaptiveKL:
    """tau <- tau (1 + clip(KL / target - 1, -0.2, 0.2) n / horizon) after an iteration of n sequences.

    See "Fine-Tuning Language Models from Human Preferences" by Ziegler et al. (https://arxiv.org/abs/1909.08593),
    section 2.2, where n / horizon is K_beta. The target of training moves with tau. n counts as `horizon` at most.

    Args:
        initial: tau of the first iteration.
        target: KL(pi || reference) of a completion to steer to, in nats.
        horizon: sequences over which tau changes by 20 % at most.
    """

    def __init__(self, initial: float = 0.2, target: float = 6.0, horizon: int = 10_000) -> None:
        for name, value in (("initial", initial), ("target", target), ("horizon", horizon)):
            if not value > 0:
                raise InputError(f"AdaptiveKL.{name} is {value}; it is a positive number")
        self.tau, self.target, self.horizon = initial, target, horizon

    def update(self, divergence: float, sequences: float) -> None:
        """After an iteration of so many sequences, with their mean KL in nats."""
        error = min(max(divergence / self.target - 1, -0.2), 0.2)
        self.tau *= 1 + error * min(sequences / self.horizon, 1.0)


class KLInReward(CreditStep):
    """r_t -= tau w_t log(pi_t / u_t) at every token, u the reference: k1, both laws unfiltered and at temperature 1.

    At gamma = 1 the gradient is that of E r - tau KL(pi || u), whose maximum is u e^{r/tau} / Z.

    Args:
        tau: temperature; a number, or an `AdaptiveKL` that steers it to a KL; at 0 the KL is measured only.
    """

    needs = frozenset({"reference"})
    gives = frozenset({"token_reward"})

    def __init__(self, tau: float | AdaptiveKL = 0.1) -> None:
        if not isinstance(tau, AdaptiveKL) and not tau >= 0:
            raise InputError(f"KLInReward.tau is {tau}; it is 0, a positive number or an AdaptiveKL")
        self.coefficient = tau
        self.warned = False

    @property
    def tau(self) -> float:
        """The temperature of the next iteration."""
        return self.coefficient.tau if isinstance(self.coefficient, AdaptiveKL) else self.coefficient

    def __call__(self, rollout: Rollout) -> Credited:
        policy, reference = laws(rollout)
        tau, weight = self.tau, rollout.sequences.token_weight.to(policy.dtype)
        before = torch.zeros_like(policy) if rollout.token_reward is None else rollout.token_reward
        shaped = dataclasses.replace(rollout, token_reward=before - tau * weight * kl.k1(policy, reference))
        found = divergence(rollout)
        self.watch(rollout, found)
        if isinstance(self.coefficient, AdaptiveKL):
            self.coefficient.update(float(found.mean), float(found.weight))
        one = policy.new_ones(())
        return Credited(shaped, (*of_kl(rollout), Metric("tau", tau * one, one)))

    def watch(self, rollout: Rollout, found: Moments) -> None:
        """Warns once, on the first rank, of a KL that is negative beyond chance."""
        text = None if self.warned else negative_kl(rollout, found)
        self.warned |= text is not None
        if text is not None and (world_size() == 1 or dist.get_rank() == 0):
            warnings.warn(text, stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        return {"tau": self.tau} if isinstance(self.coefficient, AdaptiveKL) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.coefficient, AdaptiveKL) and "tau" in state:
            self.coefficient.tau = state["tau"]


def laws(rollout: Rollout) -> tuple[Tensor, Tensor]:
    """[T], [T] log pi and log u of the sampled tokens, 0 at those of weight 0.

    Raises:
        InputError: the rollout was not scored by a reference.
    """
    if rollout.reference is None:
        raise InputError("a KL in the reward is one to a reference, and this rollout has none; set model.reference")
    weight = rollout.sequences.token_weight
    return counted(rollout.unfiltered, weight), counted(rollout.reference, weight)


def divergence(rollout: Rollout) -> Moments:
    """Of sum_t w_t log(pi_t / u_t) over the completions of all ranks: its mean estimates KL(pi || u) in nats."""
    weight = rollout.sequences.token_weight
    ratio = segment_sum(weight * kl.k1(*laws(rollout)), rollout.sequences.completion_lengths)
    return moments(ratio, own_weight(rollout))


def of_kl(rollout: Rollout) -> tuple[Metric, ...]:
    """KL(pi || u) of the unfiltered laws at temperature 1, by k1 and k3, of a token and of a completion, in nats."""
    policy, reference = laws(rollout)
    tokens, sequences = own_token_weight(rollout), own_weight(rollout)
    metrics: list[Metric] = []
    for name, estimate in (("k1", kl.k1(policy, reference)), ("k3", kl.k3(policy, reference))):
        whole = segment_sum(rollout.sequences.token_weight * estimate, rollout.sequences.completion_lengths)
        metrics += [mean(f"kl_unfiltered_{name}/token", estimate, tokens)]
        metrics += [mean(f"kl_unfiltered_{name}/completion", whole, sequences)]
    return tuple(metrics)


def negative_kl(rollout: Rollout, found: Moments) -> str | None:
    """What to say of a mean KL beyond three standard errors below 0, which a KL never is; None where it is not."""
    error = (found.variance / (found.weight - 1).clamp_min(1.0)).sqrt()
    tokens = moments(own_token_weight(rollout), torch.ones_like(own_token_weight(rollout)))
    length = tokens.mean * tokens.weight / found.weight.clamp_min(1.0)
    if found.weight < 2 or not found.mean < -3 * error - ROUNDING * length:
        return None
    law = rollout.law
    causes = "dropout in sampling; a reference of another precision or with another tokenizer"
    if law is not None:
        filtered = "" if law.kept is None else " and from a filtered set of tokens"
        causes = f"sampling at temperature {law.temperature:g}{filtered}, as the KL is of all tokens at temperature 1; {causes}"
    return (
        f"the KL to the reference is {float(found.mean):.3g} nats a completion, {float(-found.mean / error):.1f} standard "
        f"errors below 0, over {int(found.weight)} completions, and a KL is never negative. Likely causes: {causes}. "
        "Chance alone does this once in 740 iterations"
    )
