"""Terms to add to a head: closeness to a reference, entropy, likelihood, odds, and the critic's own loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn.functional import logsigmoid

from lit_rlhf.errors import InputError
from lit_rlhf.functional import kl, segment
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import Reduce, completion_logps, counted, ends, policy_logps, policy_statistic, required
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
    """L = sum_t w_t k(log pi_t, log u_t) over the tokens of the data.

    On samples of pi, k2 has the expected gradient of KL(pi || u), k3 that of KL(u || pi); k1 has none and is refused.

    Args:
        estimator: k2 = log(pi/u)^2 / 2, k3 = u/pi - 1 - log(u/pi).
    """

    estimator: Literal["k2", "k3"] = "k2"

    def __post_init__(self) -> None:
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
        return "token"

    def __call__(self, evidence: Evidence, batch: Batch) -> LossOutput:
        policy, reference = policy_logps(evidence, batch), counted(required(evidence, "reference"), batch)
        weight = batch.token_weight
        total = (weight * ESTIMATORS[self.estimator](policy, reference)).sum()
        estimate = mean("kl_k3", kl.k3(policy.detach(), reference), weight)
        return LossOutput((Term(self.estimator, total, "token"),), (estimate,))


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
class ValueLoss(Regulariser):
    """L = sum_t w_t (V_t - R_t)^2 / 2, the critic's error against the returns of a rollout.

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
        values, returns = (segment.counted(required(source, name), weight) for source, name in
                           ((evidence, "values"), (batch, "returns")))
        error = (values - returns).square()
        if self.clip is not None:
            before = segment.counted(required(batch, "values"), weight)
            near = before + (values - before).clamp(-self.clip, self.clip)
            error = torch.maximum(error, (near - returns).square())
        return LossOutput((Term("value", (weight * error).sum() / 2, "token"),), (mean("value_error", error, weight),))
