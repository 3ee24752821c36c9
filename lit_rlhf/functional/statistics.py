"""Means, shares and pass@k with intervals: prompts are the independent units, with several completions each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LEVEL = 0.95
"""Of every interval, unless another one is asked for."""
_CELLS = 2**20
"""Numbers that a bootstrap holds at once."""


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its confidence interval; they are NaN where there are too few prompts for one."""

    value: float
    low: float
    high: float
    prompts: int
    """How many it rests on."""


def pass_at_k(right: Tensor, drawn: Tensor, k: int) -> Tensor:
    """[N] 1 - C(n - c, k) / C(n, k): the unbiased estimate of the probability that one of k completions is right.

    See eq. 1 of "Evaluating Large Language Models Trained on Code" by Chen et al. (https://arxiv.org/abs/2107.03374).

    Args:
        right: [N] c, the right ones among those drawn.
        drawn: [N] n
        k: 1 or more; NaN where n < k.
    """
    step = torch.arange(k, device=drawn.device)
    wrong, all_drawn = (drawn - right)[:, None] - step, drawn[:, None] - step
    none_right = (wrong.clamp_min(0).double() / all_drawn.clamp_min(1)).prod(1)
    return torch.where(drawn >= k, 1.0 - none_right, torch.nan)


def mean_estimate(
    total: Tensor, weight: Tensor, level: float = LEVEL, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """sum_x total_x / sum_x weight_x over prompts x, with a percentile bootstrap over prompts.

    With the sums over a prompt's completions as `total` and their number as `weight` this is the mean over completions,
    and completions of one prompt are not taken for independent.

    Args:
        total: [N]
        weight: [N] not negative; a prompt of weight 0 is left out.
        level: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap; the global random state does not move.
    """
    counted = weight > 0
    total, weight = total[counted].double().cpu(), weight[counted].double().cpu()
    prompts = len(total)
    if prompts == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    value = float(total.sum() / weight.sum())
    if prompts == 1:
        return Estimate(value, math.nan, math.nan, 1)
    generator, means = torch.Generator().manual_seed(seed), []
    for rows in torch.arange(resamples).split(max(1, _CELLS // prompts)):
        drawn = torch.randint(prompts, (len(rows), prompts), generator=generator)
        means.append(total[drawn].sum(1) / weight[drawn].sum(1))
    tail = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = torch.cat(means).quantile(tail).tolist()
    return Estimate(value, low, high, prompts)


def share_estimate(shares: Tensor, level: float = LEVEL) -> Estimate:
    """The mean of shares x in [0, 1], one per prompt, with Wilson's interval on the effective number of trials.

    Of N prompts with mean p and variance v that number is N p (1 - p) / v. It is N where all shares are 0 or 1, the
    interval then Wilson's own, and larger where a prompt has several trials or ties. Where all prompts agree on 0 or 1
    it is N, and the interval still has a width.

    See "Probable Inference, the Law of Succession, and Statistical Inference" by Wilson (1927), and for the effective
    number "Confidence intervals for proportions with small expected number of positive counts estimated from survey
    data" by Korn and Graubard (1998).

    Args:
        shares: [N]; a NaN is left out.
        level: of the interval.
    """
    shares = shares[~shares.isnan()].double().cpu()
    if len(shares) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    p, v = float(shares.mean()), float(shares.var(unbiased=False))
    if v == 0 and 0 < p < 1:
        return Estimate(p, p, p, len(shares))
    trials = len(shares) * (p * (1 - p) / v if v else 1.0)
    z2 = 2 * float(torch.erfinv(torch.tensor(level, dtype=torch.float64))) ** 2
    centre, spread = p + z2 / (2 * trials), math.sqrt(z2 * (p * (1 - p) + z2 / (4 * trials)) / trials)
    scale = 1 + z2 / trials
    return Estimate(p, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale), len(shares))
