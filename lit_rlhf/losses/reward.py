"""Heads that train reward models: they read scores instead of log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch.nn.functional import logsigmoid

from lit_rlhf.functional.segment import counted
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import ends, one_of, required, reward_gaps
from lit_rlhf.losses.metrics import mean, of_pairs, of_rewards
from lit_rlhf.types import Evidence, PreferenceBatch, ScoredBatch, Unit


ScoreLink = Literal["squared", "logistic"]


@dataclass(frozen=True)
class BradleyTerryLoss(LossHead):
    """L = sum_E w [p l(s_w - s_l - m) + (1 - p) l(s_l - s_w - m) + centring (s_w + s_l)^2], l(x) = -log sigma(x).

    m = margin * reward_gap, as in Llama 2 (https://arxiv.org/abs/2307.09288, equation 2); the centring term fixes the
    constant that differences leave open (https://arxiv.org/abs/2312.09244).

    Args:
        margin: factor of the data's reward gap; 0 leaves it out.
        centring: coefficient of the squared sum of scores.
    """

    margin: float = 0.0
    centring: float = 0.0

    @property
    def family(self) -> str:
        return "PRA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"score", "chosen"} | ({"reward_gap"} if self.margin else set()))

    @property
    def unit(self) -> Unit:
        return "pair"

    def __call__(self, evidence: Evidence, batch: PreferenceBatch) -> LossOutput:
        score, weight, p = required(evidence, "score"), batch.pair_weight, batch.probability
        chosen, rejected = ends(score, batch)
        margin = self.margin * reward_gaps(batch) if self.margin else 0.0
        losses = -p * logsigmoid(chosen - rejected - margin) - (1 - p) * logsigmoid(rejected - chosen - margin)
        losses = losses + self.centring * (chosen + rejected).square()
        metrics = of_pairs(chosen, rejected, p, weight)
        return LossOutput((Term("bradley_terry", (weight * losses).sum(), "pair"),), metrics)


@dataclass(frozen=True)
class ScoreRegression(LossHead):
    """L = sum_S w (s - r)^2 / 2, or sum_S w [-r log sigma(s) - (1 - r) log sigma(-s)] for rewards in [0, 1].

    Args:
        link: `squared` or `logistic`.
    """

    link: ScoreLink = "squared"

    def __post_init__(self) -> None:
        one_of(ScoreLink, self.link, self, "link")

    @property
    def family(self) -> str:
        return "RA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"score", "reward"})

    @property
    def unit(self) -> Unit:
        return "sequence"

    def __call__(self, evidence: Evidence, batch: ScoredBatch) -> LossOutput:
        weight = batch.sequence_weight
        score, reward = counted(required(evidence, "score"), weight), batch.reward
        if self.link == "squared":
            losses = (score - reward).square() / 2
        else:
            losses = -reward * logsigmoid(score) - (1 - reward) * logsigmoid(-score)
        return LossOutput(
            (Term("regression", (weight * losses).sum(), "sequence"),),
            (*of_rewards(score, reward, weight), mean("squared_error", (score - reward).square(), weight)),
        )
