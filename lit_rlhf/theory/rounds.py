"""A reference that follows the policy: search, move the reference by its own rule, and search again."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.theory.descent import descend
from lit_rlhf.theory.field import Field
from lit_rlhf.theory.problem import Problem

MOST = 10_000
"""Updates after which a reference has moved, if it ever does."""


def rounds(field: Field, problem: Problem, number: int, deadline: float) -> tuple[Tensor, ...]:
    """[n] log pi at the end of every round, the first one with the reference as it was built.

    Args:
        field: of an off-line composition whose reference has `after_update`.
        problem: whose base law the policy starts at.
        number: of rounds.
        deadline: `time.perf_counter()` by which searches end.
    """
    laws = []
    for _ in range(number):
        descent = descend(field, field.values(), deadline)
        if descent.outcome != "minimiser":
            break
        field.set(descent.weights)
        laws.append(field.law())
        moved(field.algorithm, problem)
    return tuple(laws)


def moved(algorithm: Algorithm, problem: Problem) -> bool:
    """Counts updates until the reference has moved; False where it does not."""
    sequences = problem.sequences()
    before = algorithm.reference.token_logps(sequences)
    for step in range(1, MOST):
        algorithm.reference.after_update(algorithm.actor, step)
        if not torch.equal(before, algorithm.reference.token_logps(sequences)):
            return True
    return False
