"""Listwise PRA: K responses of a prompt with their rewards, seen as a preference among all of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from lit_rlhf.functional.segment import log_softmax_by
from lit_rlhf.losses.base import LossHead, LossOutput, Term
from lit_rlhf.losses.evidence import Reduce, Responses, one_of, positive, responses, temperature
from lit_rlhf.losses.metrics import of_rewards
from lit_rlhf.types import Evidence, ScoredBatch, Unit


@dataclass(frozen=True)
class InfoNCA(LossHead):
    """L = -K sum_k softmax(r/alpha)_k log softmax(tau log(pi/u))_k per prompt: K-way cross-entropy.

    The factor K makes dividing by sequences a mean over prompts; where K differs, each prompt counts K times.
    The minimiser is u e^{r/(alpha tau)} / Z; K = 2 with alpha -> 0 is DPO.
    See "Noise Contrastive Alignment of Language Models with Explicit Rewards" by Chen et al.
    (https://arxiv.org/abs/2402.05369).

    Args:
        tau: temperature of the implicit reward.
        alpha: temperature of the rewards' softmax.
        reduce: log-ratios of a completion are added, or averaged over its tokens.
    """

    tau: float = 0.1
    alpha: float = 1.0
    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        positive(self.tau, self)
        positive(self.alpha, self, "alpha")
        one_of(Reduce, self.reduce, self, "reduce")

    @property
    def family(self) -> str:
        return "PRA"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"policy", "reward", "group"})

    @property
    def unit(self) -> Unit:
        return "sequence"

    def __call__(self, evidence: Evidence, batch: ScoredBatch) -> LossOutput:
        found = responses(evidence, batch, temperature(evidence, self.tau), self.reduce)
        found.refuse_singles(self)
        label = log_softmax_by(found.reward / self.alpha, found.prompt, found.prompts).exp()
        total = (found.weight * self.losses(found, label)).sum()
        return LossOutput((Term("nca", total, "sequence"),), of_rewards(found.implicit, found.reward, found.weight))

    def losses(self, found: Responses, label: Tensor) -> Tensor:
        """[n] the share of each response, times K."""
        return -found.size * label * log_softmax_by(found.implicit, found.prompt, found.prompts)


@dataclass(frozen=True)
class NCA(InfoNCA):
    """L = -K sum_k [softmax(r/alpha)_k log sigma(s_k) + (1/K) log sigma(-s_k)] per prompt, s = tau log(pi/u).

    Pointwise and self-normalised: the target is u e^{r/alpha} / Z at tau = 1. The arguments are those of `InfoNCA`.
    """

    def losses(self, found: Responses, label: Tensor) -> Tensor:
        return -found.size * label * logsigmoid(found.implicit) - logsigmoid(-found.implicit)
