"""Small on-line runs on the built-in task, from parts."""

from __future__ import annotations

from typing import Any

import torch
from support import fit

from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.components.actor import Actor
from lit_rlhf.credit.groups import LeaveOneOut
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.losses.policy import Reinforce
from lit_rlhf.rewards.reviews import ReviewReward
from lit_rlhf.sampling.native import NativeSampler

PROMPTS, K = 4, 2


def made(loss: Any = None, lr: float = 0.1, **parts: Any) -> OnlineAlgorithm:
    """The policy gradient with leave-one-out, or what is given in its place."""
    sgd = {"optimizer": lambda groups: torch.optim.SGD(groups, lr=lr), "max_grad_norm": None}
    own = {
        "reward": ReviewReward(), "sampler": NativeSampler(max_new_tokens=3), "credit": [LeaveOneOut()], "group_size": K,
    }
    return OnlineAlgorithm(Actor("lit_rlhf/reviews"), loss or Reinforce(), **own | sgd | parts)


def data(size: int = 64, **settings: Any) -> Reviews:
    """Few prompts an iteration, none of validation."""
    return Reviews(**{"batch_size": PROMPTS, "val_size": 0, "size": size} | settings)


def run(algorithm: OnlineAlgorithm, iterations: int | None = 1, given: Reviews | None = None, **trainer: Any) -> Any:
    """Trains for so many iterations, or as long as the Trainer says; the Trainer."""
    torch.manual_seed(0)
    if iterations is not None:
        algorithm.max_iterations = iterations
    return fit(algorithm, given or data(), **{"max_epochs": -1, "max_steps": -1} | trainer)


def weights(algorithm: OnlineAlgorithm) -> dict[str, torch.Tensor]:
    """Copies of everything trained."""
    return {name: weight.detach().clone() for name, weight in algorithm.named_parameters() if weight.requires_grad}
