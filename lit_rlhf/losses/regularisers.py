"""Terms to add to a head: closeness to a reference, entropy, likelihood, odds, and the critic's own loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn.functional import logsigmoid

from lit_rlhf.errors import InputError
from lit_rlhf.functional import kl, segment
from lit_rlhf.losses.averaging import Average, total_of, unit_of
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import (
    Reduce,
    completion_logps,
    counted,
    drawn,
    ends,
    one_of,
    policy_logps,
    policy_statistic,
    required,
)
from lit_rlhf.losses.metrics import mean
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, Rollout, Unit

ESTIMATORS = {"k2": kl.k2, "k3": kl.k3}


class Regulariser(LossHead):
    """A head that approximates no reward."""

    @property
    def family(self) -> str:
        return "regulariser"


@dataclass(frozen=True)
class KLPenalty(Regulariser):
    """L = sum_t w_t k(log pi_t, log u_t) over the tokens of the data, unfiltered and at temperature 1.

    On samples of pi, k2 has the expected gradient of KL(pi || u), k3 that of KL(u || pi); k1 has none and is refused.
    Each is the KL of the next token, with the tokens before it as they were sampled: summed over a sequence of several
    tokens, neither is the gradient of the KL of whole sequences, which counts what a token does to those after it. That
    is the KL in the reward.

    Args:
        estimator: k2 = log(pi/u)^2 / 2, k3 = u/pi - 1 - log(u/pi).
        average: mean over tokens, or over sequences of means or sums (GRPO's own is `sequence`).
    """

    estimator: Literal["k2", "k3"] = "k2"
    average: Average = "token"

    def __post_init__(self) -> None:
        one_of(Average, self.average, self, "average")
        if self.estimator not in ESTIMATORS:
            raise InputError(
                f"KLPenalty.estimator is {self.estimator!r}, expected k2 or k3. As a loss k1 has an expected gradient "
                "of 0: it belongs in the reward"
            )

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "reference"})

    @property
    def unit(self) -> Unit:
        return unit_of(self.average)

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        policy, reference = policy_logps(evidence, batch), counted(required(evidence, "reference"), batch)
        total = total_of(ESTIMATORS[self.estimator](policy, reference), batch, self.average)
        estimate = mean("kl_k3", kl.k3(policy.detach(), reference), batch.token_weight)
        return LossOutput((Term(self.estimator, total, self.unit),), (estimate,))


@dataclass(frozen=True)
class EntropyBonus(Regulariser):
    """L = -sum_t w_t H(pi(. | x, y_<t)) over the tokens of the data."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "entropy"})

    @property
    def unit(self) -> Unit:
        return "token"

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        entropy, weight = policy_statistic(evidence, batch, "entropy"), batch.token_weight
        term = Term("entropy_bonus", -(weight * entropy).sum(), "token")
        return LossOutput((term,), (mean("entropy", entropy, weight),))


@dataclass(frozen=True)
class NLL(Regulariser):
    """L = -sum_t w_t log pi_t, over the chosen ends where the data are pairs, and all completions otherwise."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy"})

    @property
    def unit(self) -> Unit:
        return "token"

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        paired = isinstance(batch, PreferenceBatch)
        unit, weight = ("chosen_token", batch.chosen_token_weight) if paired else ("token", batch.token_weight)
        values = policy_logps(evidence, batch)
        return LossOutput((Term("nll", -(weight * values).sum(), unit),), (mean("nll", -values, weight),))


@dataclass(frozen=True)
class OddsRatio(Regulariser):
    """L = -sum_E w log sigma(log odds(y_w) - log odds(y_l)), odds = P / (1 - P), log P the mean log-prob of a token.

    See "ORPO: Monolithic Preference Optimization without Reference Model" by Hong et al.
    (https://arxiv.org/abs/2403.07691), equations 4 to 7. Soft labels are averaged over.
    """

    reduce: ClassVar[Reduce] = "mean"
    """How metrics of validation read log-probs of completions."""

    @property
    def family(self) -> str:
        return "PRA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "chosen"})

    @property
    def unit(self) -> Unit:
        return "pair"

    def __call__(self, evidence: Evidence, batch: PreferenceBatch) -> LossOutput:
        logps = completion_logps(evidence, batch, "mean")
        logps = logps.clamp_max(-torch.finfo(logps.dtype).eps)  # P = 1 has no odds
        chosen, rejected = ends(logps - torch.log(-torch.expm1(logps)), batch)
        margin, p = chosen - rejected, batch.probability
        losses = -p * logsigmoid(margin) - (1 - p) * logsigmoid(-margin)
        weight = batch.pair_weight
        preferred = torch.sign(p - 0.5)
        right = (1 + torch.sign(margin.detach()) * preferred) / 2
        return LossOutput(
            (Term("odds_ratio", (weight * losses).sum(), "pair"),),
            (mean("log_odds_ratio", margin, weight), mean("accuracy", right, weight * preferred.abs())),
        )


@dataclass(frozen=True)
class OpponentLikelihood(Regulariser):
    """L = sum_E w log pi(y) of the ends that the opponent sampled: XPO's bonus for leaving what the reference says.

    alpha * OpponentLikelihood() beside a preference loss is "Exploratory Preference Optimization" by Xie et al.
    (https://arxiv.org/abs/2405.21046) where every pair has one response of the policy and one of the reference u. On
    those of u the expected gradient by tabular logits is u - pi.
    """

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "chosen", "opponent"})

    @property
    def unit(self) -> Unit:
        return "pair"

    def __call__(self, evidence: Evidence, batch: PreferenceBatch) -> LossOutput:
        logps = completion_logps(evidence, batch)
        whose = required(drawn(batch) or batch, "opponent").to(logps.dtype)
        (chosen, rejected), weight = ends(whose * logps, batch), batch.pair_weight
        pairs = mean("opponent_logp", chosen + rejected, weight)
        return LossOutput((Term("opponent_likelihood", (weight * (chosen + rejected)).sum(), "pair"),), (pairs,))


@dataclass(frozen=True)
class ValueLoss(Regulariser):
    """L = sum_t w_t (V_t - R_t)^2 / 2, the critic's error against the returns of a rollout.

    With `clip` the greater of both errors, of V and of V clipped to the rollout's values (PPO). Means of the metrics
    give the explained variance of a step: 1 - (value_error - (value - return)^2) / (return_square - return^2).

    Args:
        clip: V moves at most this far from the rollout's values (PPO's value clipping); None does not clip.
    """

    clip: float | None = None

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"values", "returns"})

    @property
    def unit(self) -> Unit:
        return "token"

    def __call__(self, evidence: Evidence, batch: Rollout) -> LossOutput:
        weight = batch.token_weight
        values = segment.counted(required(evidence, "values"), weight)
        returns = segment.counted(required(batch, "returns"), weight)
        error = plain = (values - returns).square()
        if self.clip is not None:
            before = segment.counted(required(batch, "values"), weight)
            near = before + (values - before).clamp(-self.clip, self.clip)
            error = torch.maximum(error, (near - returns).square())
        seen = {"value_error": plain, "value": values, "return": returns, "return_square": returns.square()}
        metrics = tuple(mean(name, each, weight) for name, each in seen.items())
        return LossOutput((Term("value", (weight * error).sum() / 2, "token"),), metrics)
