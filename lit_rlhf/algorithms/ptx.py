"""PPO-ptx: the likelihood of other texts, from a loader of their own, in every update."""

from __future__ import annotations

import dataclasses

import torch
from lightning import LightningDataModule

from lit_rlhf.algorithms.base import Algorithm, Strand
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.regularisers import NLL


class Ptx:
    """Adds coefficient * loss of the n-th item of `data` to the n-th update.

    See "Training language models to follow instructions with human feedback" by Ouyang et al.
    (https://arxiv.org/abs/2203.02155), section 3.5.

    Args:
        data: texts, demonstrations or whatever `loss` reads; its item n is a function of n, so nothing has to be saved.
        coefficient: of the loss.
        loss: `NLL()` when None.

    Raises:
        InputError: the coefficient is not above 0.
    """

    def __init__(self, data: LightningDataModule, coefficient: float = 1.0, loss: LossHead | None = None) -> None:
        if not coefficient > 0:
            raise InputError(f"model.ptx.coefficient: {coefficient}, expected a number above 0; leave ptx out to do without")
        self.data, self.coefficient, self.loss = data, coefficient, loss or NLL()

    def attach(self, algorithm: Algorithm) -> None:
        """Reads the data for this composition.

        Raises:
            InputError: the data are wrong, or do not have what the loss reads.
        """
        self.data.attach(_Reader(self.loss.needs, algorithm.tokenizer))
        self.data.setup("fit")

    def strand(self, update: int, rank: int, ranks: int, device: torch.device) -> Strand:
        """What an update adds on this rank."""
        item = self.data.item(update, rank, ranks)
        return Strand(self.coefficient * self.loss, tuple(batch.to(device) for batch in item))


@dataclasses.dataclass(frozen=True)
class _Reader:
    """What a data module asks of a composition."""

    needs: frozenset[str]
    tokenizer: object
