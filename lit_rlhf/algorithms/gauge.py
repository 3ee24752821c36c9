"""The distance to the target during a run: which tau and base measure a composition aims with, and what samples say of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_rlhf.algorithms.pairing import RewardPairs
from lit_rlhf.credit.counting import own
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.functional.gauge import target_gauge
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.losses.base import AgainstBehaviour, LossHead, Metric, Prior, Sum, Wrapper
from lit_rlhf.types import Rollout

if TYPE_CHECKING:
    from lit_rlhf.algorithms.online import OnlineAlgorithm

RELIABLE = 0.5
"""Nats up to which the second-order estimate may be believed."""
BOLTZMANN = ("BDA", "RA", "RDA", "PRA")


@dataclass(frozen=True)
class Aim:
    """pi^tau = u e^{r / tau} / Z."""

    tau: float
    prior: bool
    """Whether u = 1."""


def aim(algorithm: OnlineAlgorithm) -> Aim | str:
    """The target that the gauge measures the distance to, or the sentence that says why there is none."""
    for step in algorithm.credit:
        if isinstance(step, KLInReward):
            return Aim(step.tau, prior=False) if step.tau > 0 else _NO_TAU
    found = next((one for one in _temperatures(algorithm.loss) if one[0] > 0), None)
    if found is None:
        return _NO_TAU
    tau, prior, behaviour = found
    if behaviour:
        return "its base measure is the policy that sampled, which moves with every iteration"
    if not algorithm.paired:
        return Aim(tau, prior or algorithm.reference is None)
    if not isinstance(algorithm.pairs, RewardPairs):
        return "labels come from a judge, and the reward they stand for is not known"
    if algorithm.loss.family == "RDA":  # gaps are those of the rewards, whatever the labels
        return Aim(tau, prior or algorithm.reference is None)
    if algorithm.pairs.labels == "hard":
        return "hard labels of a deterministic judge have no Boltzmann target"
    return Aim(tau * algorithm.pairs.scale, prior or algorithm.reference is None)


_NO_TAU = "no part has a temperature above 0: without a KL to a reference or an entropy the target is the best responses alone"


@torch.no_grad()
def measured(rollout: Rollout, target: Aim) -> tuple[Metric, ...]:
    """`udrra/kl_to_target` and what goes with it, as sums over the prompts of this rank that have two samples or more.

    Args:
        rollout: sampled from the policy's own law; the sequences that count, cut ones among them, are the responses.
        target: its tau and base measure.
    """
    rows = own(rollout).nonzero()[:, 0]
    ratio = rollout.unfiltered if target.prior else rollout.unfiltered - rollout.reference
    whole = segment_sum(rollout.sequences.token_weight * ratio, rollout.sequences.completion_lengths)
    error = (whole - rollout.reward / target.tau)[rows]
    prompts = len(rollout.sequences.prompt_lengths)
    gauge = target_gauge(error, rollout.sequences.prompt_of[rows], prompts)
    several = (gauge.size > 1).double()
    number = several.sum()

    def over_prompts(values: Tensor) -> Tensor:
        return torch.where(several > 0, values, 0.0).sum()

    return (
        Metric("udrra/kl_to_target", over_prompts(gauge.second_order), number),
        Metric("udrra/kl_to_target_exponential", over_prompts(gauge.exponential), number),
        Metric("udrra/effective_samples", over_prompts(gauge.effective), number),
        Metric("udrra/unreliable", over_prompts((gauge.second_order > RELIABLE).double()), number),
    )


def obstacle(algorithm: OnlineAlgorithm) -> str:
    """Why a run has no gauge; empty where it has one."""
    found = aim(algorithm)
    if isinstance(found, str):
        return found
    if algorithm.group_size < 2:
        return "each prompt is answered once, and the variance within a prompt takes two; set model.group_size to 2 or more"
    if not algorithm.sampler.processing.plain:
        return "the sampler's temperature and filters are not the policy's own law, and its samples say nothing exact of it"
    return ""


def gauge_line(algorithm: OnlineAlgorithm) -> str:
    """What a run says of its gauge when it begins."""
    why = obstacle(algorithm)
    if why:
        return f"none, because {why}"
    found = aim(algorithm)
    base = "1" if found.prior else f"the reference ({algorithm.reference.mode})"
    return f"udrra/kl_to_target estimates KL(pi || u e^(r/tau) / Z), tau = {found.tau:g} and u = {base}; to be believed up to {RELIABLE} nats"


def _temperatures(head: LossHead, prior: bool = False, behaviour: bool = False) -> Iterator[tuple[float, bool, bool]]:
    """tau of the heads of a family, whether the reference is hidden from each, and whether its base is the behaviour."""
    if isinstance(head, Sum):
        for term in head.terms:
            yield from _temperatures(term, prior, behaviour)
    elif isinstance(head, Wrapper):
        yield from _temperatures(head.head, prior or isinstance(head, Prior), behaviour or isinstance(head, AgainstBehaviour))
    elif head.family in BOLTZMANN and "tau" in {field.name for field in dataclasses.fields(head)}:
        yield float(head.tau), prior, behaviour
