"""Low-rank adapters through peft."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lit_rlhf.components.reading import quiet
from lit_rlhf.errors import InputError


class LoRA:
    """W + (alpha / rank) B A on the chosen linear layers; everything else is frozen.

    See "LoRA: Low-Rank Adaptation of Large Language Models" by Hu et al. (https://arxiv.org/abs/2106.09685).

    Args:
        rank: of A and B.
        alpha: numerator of the scale.
        dropout: on the adapter's input, in training; it acts on the policy and not on the reference.
        target_modules: names of layers, a regular expression over their full names, or `all-linear` (all but the
            output head).
        rslora: scale alpha / sqrt(rank) (https://arxiv.org/abs/2312.03732).
        dora: weight-decomposed adapters (https://arxiv.org/abs/2402.09353).

    Raises:
        InputError: a rank below 1, or a dropout that is no probability.
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
        if rank < 1 or not 0 <= dropout < 1:
            raise InputError(f"LoRA(rank={rank}, dropout={dropout}): rank is at least 1 and dropout in [0, 1)")
        self.rank, self.alpha, self.dropout, self.rslora, self.dora = rank, alpha, dropout, rslora, dora
        self.target_modules = target_modules if isinstance(target_modules, str) else list(target_modules)

    def wrap(self, net: Any, source: str | None = None) -> Any:
        """The network with fresh float32 adapters, equal to `net` at the start (B = 0).

        Args:
            net: a network of transformers.
            source: where its weights came from, by which exported adapters find them.

        Raises:
            InputError: no layer has such a name, or the output head is among them.
        """
        from peft import LoraConfig, get_peft_model
        from peft.tuners.tuners_utils import BaseTunerLayer

        settings = LoraConfig(
            task_type="CAUSAL_LM" if net.can_generate() else None, r=self.rank, lora_alpha=self.alpha,
            lora_dropout=self.dropout, target_modules=self.target_modules, use_rslora=self.rslora, use_dora=self.dora,
        )
        try:
            with quiet():
                wrapped = get_peft_model(net, settings)
        except ValueError as error:
            raise InputError(f"LoRA.target_modules: {str(error).splitlines()[0]}") from error
        if isinstance(net.get_output_embeddings(), BaseTunerLayer):
            raise InputError(
                "LoRA.target_modules: the output head cannot have adapters; leave it out, as `all-linear` does"
            )
        wrapped.peft_config["default"].base_model_name_or_path = source
        return wrapped
