"""Any composition on an exactly solvable problem: models, sampler and reward become tables; the rest is its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.cached import Cached
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reference import AdapterOff, EMA, FrozenCopy, Reference
from lit_rlhf.rewards.judge import RewardJudge
from lit_rlhf.theory.sampling import TableReward, TableSampler
from lit_rlhf.theory.tabular import By, TableModel
from lit_rlhf.theory.problem import Problem


def adapted(algorithm: Algorithm, problem: Problem, by: By = "response") -> Algorithm:
    """A copy of a composition on a problem, built; nothing of the original changes and none of its weights is read.

    Every language model in it becomes a table that starts at the problem's base law, and so does the reference; the
    sampler draws from tables, the reward is the problem's. Head, credit steps, pairs, learned parts, epochs and
    clipping are copies of its own.

    Args:
        algorithm: from a configuration or made in Python.
        problem: responses, base law, reward.
        by: what the policy has a logit for.
    """
    memo = dict(_replaced(algorithm, problem, by))
    twin = copy.deepcopy(algorithm, memo)
    for _, part in twin.parts:
        part.lr = None
    if getattr(twin, "ptx", None) is not None:
        twin.ptx.attach = lambda algorithm: None
    twin.configure_model()
    for parameter in twin.parameters():
        parameter.data = parameter.data.double()
    return twin


def _replaced(algorithm: Algorithm, problem: Problem, by: By) -> Iterator[tuple[int, Any]]:
    """id of a part and what stands in its place."""
    own = getattr(algorithm, "_trainer", None)
    if own is not None:
        yield id(own), None
    reference = algorithm.reference
    models = [module for module in algorithm.modules() if isinstance(module, LanguageModel)]
    if reference is not None:
        if isinstance(reference, (AdapterOff, Cached)) or not _has_model(reference):
            yield id(reference), FrozenCopy()
        elif isinstance(reference, EMA):
            yield id(reference), EMA(reference.decay, reference.every)
        elif isinstance(reference, FrozenCopy):
            yield id(reference), type(reference)()
        else:
            models.append(reference.model)
    for model in models:
        yield id(model), TableModel(problem.tree, problem.log_base, by)
    if algorithm.samples:
        yield from _around(algorithm, problem)


def _around(algorithm: OnlineAlgorithm, problem: Problem) -> Iterator[tuple[int, Any]]:
    """Of an on-line composition: reward, samplers, judge and texts."""
    reward = TableReward(problem)
    yield id(algorithm.reward), reward
    processing = algorithm.sampler.processing
    for sampler in (algorithm.sampler, algorithm.val_sampler):
        yield id(sampler), TableSampler(problem.tree, processing)
    judge = getattr(algorithm.pairs, "judge", None)
    if judge is not None:
        hard, tau = getattr(judge, "deterministic", False), getattr(judge, "tau", 1.0)
        yield id(judge), RewardJudge(reward, tau, hard)
    if algorithm.ptx is not None:
        yield id(algorithm.ptx.data), problem.texts()


def _has_model(reference: Reference) -> bool:
    return isinstance(reference, FrozenCopy) or isinstance(getattr(reference, "model", None), LanguageModel)


def policy_of(algorithm: Algorithm) -> TableModel | None:
    """The table of the policy; None where a reward model is trained."""
    return algorithm.actor.model if isinstance(getattr(algorithm, "actor", None), Actor) else None


def set_law(algorithm: Algorithm, log_law: torch.Tensor) -> None:
    """Puts the policy at a law [n]."""
    policy_of(algorithm).net.start_at(log_law)


def weights(algorithm: Algorithm) -> list[nn.Parameter]:
    """All that is trained."""
    return [weight for _, part in algorithm.parts for weight in part.parameters() if weight.requires_grad]
