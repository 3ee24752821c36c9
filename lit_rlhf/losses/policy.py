"""BDA on rollouts: the policy gradient with advantages, and what clips, weighs or gates its ratio to the behaviour.

A ratio r is pi/pi_old under the law that sampled the tokens (its temperature, its kept tokens), pi_old the behaviour.
`average` is the mean over all tokens of the step (`token`), or the mean over sequences of each one's mean (`sequence`)
or sum (`sum`); `length` is what sums are divided by, 1 where it is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lit_rlhf.errors import InputError
from lit_rlhf.functional import exponential
from lit_rlhf.functional import policy as pure
from lit_rlhf.losses.averaging import Average
from lit_rlhf.losses.base import Metric
from lit_rlhf.losses.evidence import one_of, positive
from lit_rlhf.losses.metrics import mean
from lit_rlhf.losses.surrogate import Drawn, Surrogate

Ratio = Literal["token", "sequence"]
"""pi/pi_old of each token, or [pi(y)/pi_old(y)]^(1/|y|) of its sequence."""


@dataclass(frozen=True)
class Reinforce(Surrogate):
    """L = -sum_t A_t log pi_t, the policy gradient, right where pi sampled the tokens (REINFORCE, A2C, RLOO).

    See "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning" by Williams
    (https://doi.org/10.1007/BF00992696).

    Args:
        average: mean over tokens, or over sequences of means or sums; `sum` is the gradient of the expected reward.
        length: what the sums of sequences are divided by; None is 1.
    """

    average: Average = "sum"
    length: int | None = None

    def objective(self, seen: Drawn) -> Tensor:
        return seen.advantage * seen.acting


@dataclass(frozen=True)
class ClippedSurrogate(Surrogate):
    """L = -sum_t min(r_t A_t, clip(r_t, 1 - low, 1 + high) A_t), r = pi/pi_old (PPO, https://arxiv.org/abs/1707.06347).

    How it is averaged makes the algorithm: `token` is PPO's and DAPO's (https://arxiv.org/abs/2503.14476),
    `sequence` GRPO's (https://arxiv.org/abs/2402.03300), `sum` with a constant `length` Dr. GRPO's
    (https://arxiv.org/abs/2503.20783). With ratio=sequence, average=sequence is GSPO (https://arxiv.org/abs/2507.18071)
    and average=sum LUSPO (https://arxiv.org/abs/2602.05261), which weighs GSPO's sequences by |y|.

    Metrics: `clip_low` and `clip_high`, shares of tokens whose gradient was cut because the ratio had fallen or risen
    enough, and `clip_dual` with `dual`.

    Args:
        low: a ratio below 1 - low has no gradient where A < 0.
        high: a ratio above 1 + high has none where A > 0.
        ratio: that of each token, or that of its sequence to the power 1/|y|, which then moves all tokens alike.
        dual: a ratio above it, greater than 1 + high, has no gradient where A < 0 (https://arxiv.org/abs/1912.09729).
        average: mean over tokens, or over sequences of means or sums.
        length: what the sums of sequences are divided by; None is 1.
    """

    low: float = 0.2
    high: float = 0.2
    ratio: Ratio = "token"
    dual: float | None = None
    average: Average = "token"
    length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(Ratio, self.ratio, self, "ratio")
        positive(self.low, self, "low")
        positive(self.high, self, "high")
        if self.dual is not None and not self.dual > 1 + self.high:
            raise InputError(f"ClippedSurrogate.dual is {self.dual}; it is greater than 1 + high = {1 + self.high}")

    def ratios(self, seen: Drawn) -> Tensor:
        """[T] of tokens, or of their sequences."""
        return exponential.exp(seen.log_ratio if self.ratio == "token" else seen.sequence_log_ratio(per_token=True))

    def objective(self, seen: Drawn) -> Tensor:
        found = pure.clipped_surrogate(self.ratios(seen), seen.advantage, self.low, self.high)
        return found if self.dual is None else pure.dual_clip(found, seen.advantage, self.dual)

    def more_metrics(self, seen: Drawn) -> tuple[Metric, ...]:
        ratio, bad = self.ratios(seen), seen.advantage < 0
        cut = {"clip_low": (ratio < 1 - self.low) & bad, "clip_high": (ratio > 1 + self.high) & (seen.advantage > 0)}
        if self.dual is not None:
            cut["clip_dual"] = (ratio > self.dual) & bad
        return tuple(mean(name, where.to(ratio.dtype), seen.weight) for name, where in cut.items())


@dataclass(frozen=True)
class ClippedWeight(Surrogate):
    """L = -sum_t sg[clip(r_t, 1 - low, 1 + high)] A_t log pi_t: clipping bounds a weight and cuts no gradient (CISPO).

    "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention" (https://arxiv.org/abs/2506.13585),
    which clips above only and averages over tokens. Metrics: `clip_low` and `clip_high`, shares of tokens whose weight
    is clipped. The default is the bound of 5 on weights in "The Art of Scaling Reinforcement Learning Compute for LLMs"
    by Khatri et al. (https://arxiv.org/abs/2510.13786).

    Args:
        low: weights are at least 1 - low; None is no lower bound.
        high: weights are at most 1 + high.
        average: mean over tokens, or over sequences of means or sums.
        length: what the sums of sequences are divided by; None is 1.
    """

    low: float | None = None
    high: float = 4.0
    average: Average = "token"
    length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.high, self, "high")
        if self.low is not None:
            positive(self.low, self, "low")

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest weight."""
        return 0.0 if self.low is None else 1 - self.low, 1 + self.high

    def objective(self, seen: Drawn) -> Tensor:
        return exponential.exp(seen.log_ratio).clamp(*self.ends).detach() * seen.advantage * seen.acting

    def more_metrics(self, seen: Drawn) -> tuple[Metric, ...]:
        ratio, (least, greatest) = exponential.exp(seen.log_ratio), self.ends
        cut = {"clip_low": ratio < least, "clip_high": ratio > greatest}
        return tuple(mean(name, where.to(ratio.dtype), seen.weight) for name, where in cut.items())


@dataclass(frozen=True)
class SoftGate(Surrogate):
    """L = -sum_t 4/tau sigma(tau (r_t - 1)) A_t, tau = tau_pos where A > 0 and tau_neg elsewhere (SAPO).

    The gradient is that of r A, times 4 p (1 - p) with p the sigmoid: 1 at r = 1. Averaged over the tokens of each
    sequence in "Soft Adaptive Policy Optimization" by Gao et al. (https://arxiv.org/abs/2511.20347). Metric: `gate`,
    the mean of that factor.

    Args:
        tau_pos: how fast the gradient of tokens with A > 0 fades as their ratio leaves 1.
        tau_neg: the same for the others.
        average: mean over tokens, or over sequences of means or sums.
        length: what the sums of sequences are divided by; None is 1.
    """

    tau_pos: float = 1.0
    tau_neg: float = 1.05
    average: Average = "sequence"
    length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self.tau_pos, self, "tau_pos")
        positive(self.tau_neg, self, "tau_neg")

    def objective(self, seen: Drawn) -> Tensor:
        return pure.soft_gate(exponential.exp(seen.log_ratio), self._tau(seen)) * seen.advantage

    def more_metrics(self, seen: Drawn) -> tuple[Metric, ...]:
        p = torch.sigmoid(self._tau(seen) * (exponential.exp(seen.log_ratio) - 1))
        return (mean("gate", 4 * p * (1 - p), seen.weight),)

    def _tau(self, seen: Drawn) -> Tensor:
        return pure.by_sign(seen.advantage > 0, self.tau_pos, self.tau_neg, seen.acting)


@dataclass(frozen=True)
class GammaWeight(Surrogate):
    """L = -sum_t sg[phi(w)] A_t log pi_t, phi(w) = w^k e^{lambda (1 - w)}, w = pi(y)/pi_old(y) of the sequence (VESPO).

    k and lambda are those of A >= 0 or of A < 0. See "VESPO: Variational Sequence-Level Soft Policy Optimization for
    Stable Off-Policy LLM Training" by Shen et al. (https://arxiv.org/abs/2602.10693). Metric: `gamma_weight`, the mean
    of phi.

    Args:
        k_pos: k where A >= 0.
        lambda_pos: lambda where A >= 0.
        k_neg: k where A < 0.
        lambda_neg: lambda where A < 0.
        average: mean over tokens, or over sequences of means or sums.
        length: what the sums of sequences are divided by; None is 1.
    """

    k_pos: float = 2.0
    lambda_pos: float = 3.0
    k_neg: float = 3.0
    lambda_neg: float = 2.0
    average: Average = "token"
    length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k_pos", "lambda_pos", "k_neg", "lambda_neg"):
            positive(getattr(self, name), self, name)

    def phi(self, seen: Drawn) -> Tensor:
        """[T] the weight of each token's sequence, without gradient."""
        good, log_ratio = seen.advantage >= 0, seen.sequence_log_ratio(per_token=False).detach()
        k = pure.by_sign(good, self.k_pos, self.k_neg, log_ratio)
        return pure.gamma_weight(log_ratio, k, pure.by_sign(good, self.lambda_pos, self.lambda_neg, log_ratio))

    def objective(self, seen: Drawn) -> Tensor:
        return self.phi(seen) * seen.advantage * seen.acting

    def more_metrics(self, seen: Drawn) -> tuple[Metric, ...]:
        return (mean("gamma_weight", self.phi(seen), seen.weight),)
