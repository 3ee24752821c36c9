"""Links: the loss of a preference as a function of the implicit rewards a and b of its ends.

A link states l(a, b), the loss where the first end is certainly preferred; a soft label p gives p l(a, b) +
(1 - p) l(b, a), its expectation over hard labels. Links of the margin are functions of a - b alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from lit_rlhf.errors import InputError
from lit_rlhf.functional import exponential
from lit_rlhf.functional.segment import counted
from lit_rlhf.losses.evidence import positive


class Link(ABC):
    """l(a, b), with a and b the implicit rewards tau log(pi/u) [E] of the ends."""

    affine: ClassVar[bool] = True
    """Whether the loss of a soft label is the mean of those of hard labels."""
    of_difference: ClassVar[bool] = False
    """Whether a and b matter by a - b alone."""

    @abstractmethod
    def certain(self, preferred: Tensor, other: Tensor, tau: Tensor | float) -> Tensor:
        """[E] the loss where `preferred` is certainly preferred."""

    def __call__(self, chosen: Tensor, rejected: Tensor, probability: Tensor, tau: Tensor | float) -> Tensor:
        """[E] the expected loss where `chosen` is preferred with this probability."""
        one, two = self.certain(chosen, rejected, tau), self.certain(rejected, chosen, tau)
        return probability * counted(one, probability) + (1 - probability) * counted(two, 1 - probability)


class MarginLink(Link):
    """l(a, b) = f(a - b)."""

    of_difference: ClassVar[bool] = True

    @abstractmethod
    def of_margin(self, margin: Tensor, tau: Tensor | float) -> Tensor:
        """[E] f(margin)."""

    def certain(self, preferred: Tensor, other: Tensor, tau: Tensor | float) -> Tensor:
        return self.of_margin(preferred - other, tau)


@dataclass(frozen=True)
class Logistic(MarginLink):
    """f(m) = -log sigma(m - margin): Bradley-Terry, the one link that keeps the target with hard labels.

    See "Direct Preference Optimization" by Rafailov et al. (https://arxiv.org/abs/2305.18290), equation 7; with a
    margin, "SimPO" by Meng et al. (https://arxiv.org/abs/2405.14734), equation 6.
    """

    margin: float = 0.0

    def of_margin(self, margin: Tensor, tau: Tensor | float) -> Tensor:
        return -logsigmoid(margin - self.margin)


@dataclass(frozen=True)
class Squared(MarginLink):
    """f(m) = (m / tau - 1 / (2 tau))^2: IPO. Here tau is a regulariser and no Boltzmann temperature.

    A label p is reached at a log-ratio of (2 p - 1) / (2 tau). The authors mean averaged log-probabilities,
    `reduce="mean"` of the head (the addendum of https://huggingface.co/blog/pref-tuning); with `sum` it is the
    equation as printed.
    See "A General Theoretical Paradigm to Understand Learning from Human Preferences" by Azar et al.
    (https://arxiv.org/abs/2310.12036), equation 17.
    """

    def of_margin(self, margin: Tensor, tau: Tensor | float) -> Tensor:
        return ((margin - 0.5) / tau) ** 2


@dataclass(frozen=True)
class Hinge(MarginLink):
    """f(m) = max(0, 1 - m): SLiC. The size of a preference beyond 1/2 is not seen.

    See "SLiC-HF" by Zhao et al. (https://arxiv.org/abs/2305.10425) and "Statistical Rejection Sampling Improves
    Preference Optimization" by Liu et al. (https://arxiv.org/abs/2309.06657).
    """

    def of_margin(self, margin: Tensor, tau: Tensor | float) -> Tensor:
        return relu(1 - margin)


@dataclass(frozen=True)
class DiscoPOP(MarginLink):
    """f(m) = (1 - s) (-log sigma(m)) + s e^{-m}, s = sigma(m / sharpness): a loss found by search.

    See "Discovering Preference Optimization Algorithms with and for Large Language Models" by Lu et al.
    (https://arxiv.org/abs/2406.08414).
    """

    sharpness: float = 0.05

    def __post_init__(self) -> None:
        positive(self.sharpness, self, "sharpness")

    def of_margin(self, margin: Tensor, tau: Tensor | float) -> Tensor:
        sharp = margin / self.sharpness
        weighted = exponential.exp(logsigmoid(sharp) - margin)  # s e^{-m}, finite where e^{-m} is not
        return -logsigmoid(margin) * torch.sigmoid(-sharp) + weighted


@dataclass(frozen=True)
class EXO(Link):
    """KL(q || p) with q = sigma(a - b) and p the label: DPO has the direction turned round.

    Infinite for labels 0 and 1, so hard labels need `label_smoothing`: its eps is the paper's, and the margin goes to
    log((1 - eps) / eps). Soft labels keep the target pi^tau.
    See "Towards Efficient Exact Optimization of Language Model Alignment" by Ji et al.
    (https://arxiv.org/abs/2402.00856).
    """

    affine: ClassVar[bool] = False
    of_difference: ClassVar[bool] = True

    def certain(self, preferred: Tensor, other: Tensor, tau: Tensor | float) -> Tensor:
        return torch.full_like(preferred, torch.inf)

    def __call__(self, chosen: Tensor, rejected: Tensor, probability: Tensor, tau: Tensor | float) -> Tensor:
        if bool(((probability <= 0) | (probability >= 1)).any()):
            raise InputError(
                "EXO: a label is 0 or 1, where its loss is infinite; set label_smoothing above 0, or use soft labels"
            )
        up, down = logsigmoid(chosen - rejected), logsigmoid(rejected - chosen)
        return up.exp() * (up - probability.log()) + down.exp() * (down - torch.log1p(-probability))


@dataclass(frozen=True)
class APOZero(Link):
    """l(a, b) = 1 - sigma(a) + sigma(b): the preferred end rises, the other falls.

    See "Anchored Preference Optimization" by D'Oosterlinck et al. (https://arxiv.org/abs/2408.06266).
    """

    def certain(self, preferred: Tensor, other: Tensor, tau: Tensor | float) -> Tensor:
        return torch.sigmoid(-preferred) + torch.sigmoid(other)


@dataclass(frozen=True)
class APODown(Link):
    """l(a, b) = sigma(a) + 1 - sigma(a - b): both ends fall, the preferred one less.

    See "Anchored Preference Optimization" by D'Oosterlinck et al. (https://arxiv.org/abs/2408.06266).
    """

    def certain(self, preferred: Tensor, other: Tensor, tau: Tensor | float) -> Tensor:
        return torch.sigmoid(preferred) + torch.sigmoid(other - preferred)


@dataclass(frozen=True)
class NCAPair(Link):
    """l(a, b) = -log sigma(a) - (log sigma(-a) + log sigma(-b)) / 2: noise contrast of two responses.

    See "Noise Contrastive Alignment of Language Models with Explicit Rewards" by Chen et al.
    (https://arxiv.org/abs/2402.05369).
    """

    def certain(self, preferred: Tensor, other: Tensor, tau: Tensor | float) -> Tensor:
        return -logsigmoid(preferred) - (logsigmoid(-preferred) + logsigmoid(-other)) / 2


@dataclass(frozen=True)
class SPPO(Link):
    """l(a, b) = (a / tau - 1 / (2 tau))^2 + (b / tau + 1 / (2 tau))^2: the off-line form with win rates 1 and 0.

    See "Self-Play Preference Optimization" by Wu et al. (https://arxiv.org/abs/2405.00675), where 1 / tau is eta.
    """

    def certain(self, preferred: Tensor, other: Tensor, tau: Tensor | float) -> Tensor:
        return ((preferred - 0.5) / tau) ** 2 + ((other + 0.5) / tau) ** 2


@dataclass(frozen=True)
class Positive(Link):
    """l(a, b) = -log sigma(a - b - penalty * max(0, -a)): DPOP, which keeps the preferred end from falling below u.

    With l(a, b) in tau log(pi/u), the paper's lambda is `penalty`.

    See "Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive" by Pal et al.
    (https://arxiv.org/abs/2402.13228), equation 3.
    """

    penalty: float = 50.0

    def certain(self, preferred: Tensor, other: Tensor, tau: Tensor | float) -> Tensor:
        return -logsigmoid(preferred - other - self.penalty * relu(-preferred))
