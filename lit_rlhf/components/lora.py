"""Low-rank adapters through peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class LoRA:
    """W + (alpha / rank) B A on the chosen linear layers; everything else is frozen.

    See "LoRA: Low-Rank Adaptation of Large Language Models" by Hu et al. (https://arxiv.org/abs/2106.09685).

    Args:
        rank: of A and B.
        alpha: numerator of the scale.
        dropout: on the adapter's input.
        target_modules: names of layers, or `all-linear` (all but the output head).
        rslora: scale alpha / sqrt(rank) (https://arxiv.org/abs/2312.03732).
        dora: weight-decomposed adapters (https://arxiv.org/abs/2402.09353).
    """

    def __init__(
        self,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        target_modules: str | Sequence[str] = "all-linear",
        rslora: bool = False,
        dora: bool = False,
    ) -> None:
        self.rank, self.alpha, self.dropout, self.rslora, self.dora = rank, alpha, dropout, rslora, dora
        self.target_modules = target_modules if isinstance(target_modules, str) else list(target_modules)

    def wrap(self, net: Any) -> Any:
        """The network with fresh adapters, equal to `net` at the start (B = 0)."""
        from peft import LoraConfig, get_peft_model

        return get_peft_model(
            net,
            LoraConfig(
                task_type="CAUSAL_LM", r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout,
                target_modules=self.target_modules, use_rslora=self.rslora, use_dora=self.dora,
            ),
        )
