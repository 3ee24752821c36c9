"""Every loss that TRL and this project have in common, ours against TRL's own: `python tools/bench/loss_table.py`.

Prints a Markdown table of relative differences of value and gradient on the same rows. Gradients are compared
as vectors, |g - g'| / |g'|. The last column is TRL accumulating the same pairs as two micro-batches against ours, which
divides by counts of the whole step and so is the same whatever the micro-batches. Ends with an error where a loss that
should be the same function is not, or where one that is said to differ no longer does.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import offline

offline.use()

import torch  # noqa: E402
from bigram import Bigram, Row, make_rows  # noqa: E402
from cases import CASES  # noqa: E402
from differences import Difference, table, wrong  # noqa: E402
from our_losses import Case  # noqa: E402
from torch import Tensor  # noqa: E402
from trl_losses import step_loss  # noqa: E402

LENGTHS = [(3, 5, 2), (2, 3, 4), (6, 2, 7), (1, 8, 3), (4, 6, 6), (2, 4, 9)]
"""Of prompt, chosen and rejected; the terminator is one of a response's tokens."""


def gradient(loss: Tensor, weight: Tensor) -> Tensor:
    return torch.autograd.grad(loss, weight)[0]


def apart(ours: Tensor, theirs: Tensor) -> float:
    """|a - b| / |b|."""
    return float((ours - theirs).norm() / theirs.norm())


def difference(case: Case, rows: list[Row]) -> Difference:
    policy, reference = Bigram(0, case.dtype), Bigram(1, case.dtype)

    def theirs(parts: int) -> Tensor:
        loss = step_loss(case.trainer, case.options, rows, parts, policy, reference)
        if case.less is not None:
            loss = loss - step_loss(case.trainer, case.less, rows, parts, policy, reference)
        return loss

    ours, whole, halves = case.our_loss(rows, policy, reference), theirs(1), theirs(2)
    own, other, accumulated = (gradient(loss, policy.weight) for loss in (ours, whole, halves))
    return Difference(apart(ours.detach(), whole.detach()), apart(own, other), apart(own, accumulated))


def main() -> None:
    rows, results = make_rows(LENGTHS), []
    for case in CASES:
        results.append((case, difference(case, rows)))
        print(case.name, results[-1][1], file=sys.stderr)
    print(f"TRL {version('trl')}, torch {version('torch')}, {len(rows)} pairs\n\n{table(results)}")
    if problems := wrong(results):
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
