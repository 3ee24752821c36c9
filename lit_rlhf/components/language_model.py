"""A causal language model of transformers behind ragged containers; nothing is read before `build`."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_rlhf.components.attention import Padded
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.runs import is_run, load_part, part_description, trunk_of
from lit_rlhf.errors import InputError
from lit_rlhf.functional.linear_logps import linear_logps
from lit_rlhf.types import Sequences, TokenLogps

BUILT_IN = {"lit_rlhf/reviews": "assets/reviews"}
"""Models that the package ships, by the name they are called."""

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


class LanguageModel(nn.Module):
    """log pi(y_t | x, y_<t) of completion tokens, and the states they are predicted from.

    Args:
        source: a hub name, a folder, a run of ours (`runs/x`, `runs/x:last`, `runs/x:best`), or `lit_rlhf/reviews`, the
            model of the built-in task.
        config: arguments of the model's configuration, `model_type` among them, for random weights; over those of
            `source` where both are given.
        tokenizer: a hub name or folder; that of `source` when None.
        dtype: of the weights; float32 when None. The precision of the arithmetic is `trainer.precision`.
        attention: implementation of attention in transformers (`sdpa`, `eager`, `flash_attention_2`, ...).
        lora: adapters; all weights are trained when None.
        gradient_checkpointing: recompute activations in the backward pass.
        dropout: whether the model's own dropout acts in training; off, policy and reference are computed alike.
        trust_remote_code: run code that a hub repository brings.
        revision: of the hub repository.

    Raises:
        InputError: neither `source` nor `config`, or a source that cannot be read.
    """

    def __init__(
        self,
        source: str | None = None,
        config: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        dtype: Dtype | None = None,
        attention: str | None = None,
        lora: LoRA | None = None,
        gradient_checkpointing: bool = False,
        dropout: bool = False,
        trust_remote_code: bool = False,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        if source is None and config is None:
            raise InputError("LanguageModel: neither source (a hub name, a folder, a run) nor config (for random weights) is given")
        if config is not None and source is None and "model_type" not in config:
            raise InputError("LanguageModel.config: model_type is missing; it names the architecture, as in {model_type: llama}")
        self.source, self.config, self.tokenizer_source = source, config, tokenizer
        self.dtype_name, self.attention, self.lora = dtype, attention, lora
        self.gradient_checkpointing, self.trust_remote_code, self.revision = gradient_checkpointing, trust_remote_code, revision
        self.dropout, self.layout = dropout, Padded()
        self.net: Any = None

    # ---- loading

    def build(self) -> None:
        """Loads or draws the weights, once."""
        if self.net is not None:
            return
        net = self._load().train()
        if not self.dropout:
            without_dropout(net)
        if self.gradient_checkpointing:
            net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if self.lora is not None:
            if self.gradient_checkpointing:
                net.enable_input_require_grads()
            net = self.lora.wrap(net)
        self.net = net

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; no weights are read."""
        from transformers import AutoTokenizer

        source = self.tokenizer_source or self._described()
        if source is None:
            raise InputError("LanguageModel.tokenizer: a model with random weights has none of its own; name a hub repository or a folder")
        return _readable(source, lambda: AutoTokenizer.from_pretrained(_located(source), trust_remote_code=self.trust_remote_code))

    def save_description(self, folder: str | Path) -> None:
        """Writes configuration, tokenizer and generation settings, no weights."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.causal.config.save_pretrained(folder)
        if self.causal.can_generate():
            self.causal.generation_config.save_pretrained(folder)
        if self.tokenizer_source or self.source:
            self.tokenizer.save_pretrained(folder)
        if self.lora is not None:
            self.net.peft_config["default"].save_pretrained(folder)

    def save(self, folder: str | Path) -> None:
        """Writes a folder that `from_pretrained` loads: adapters merged into fresh tensors, safetensors, tokenizer."""
        folder = Path(folder)
        with _quiet_loading():
            merged_net(self.net).save_pretrained(folder)
        if self.tokenizer_source or self.source:
            self.tokenizer.save_pretrained(folder)

    # ---- the network

    @property
    def causal(self) -> Any:
        """The transformers model with its output head, adapters inside it where there are some."""
        return self.net.get_base_model() if self.lora is not None else self.net

    @property
    def width(self) -> int:
        """D"""
        return self.causal.get_input_embeddings().embedding_dim

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a completion by the model's generation settings."""
        ids = getattr(self.causal.generation_config, "eos_token_id", None)
        return () if ids is None else tuple(ids) if isinstance(ids, list) else (ids,)

    def _backbone(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        backbone = self.causal.base_model
        return backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state

    # ---- states and log-probs

    def hidden(self, sequences: Sequences) -> Tensor:
        """[T, D] the state that each completion token is predicted from."""
        first = sequences.prompt_lengths[sequences.prompt_of] - 1
        return self.layout.states(self._backbone, sequences, first, sequences.completion_lengths)

    def last_hidden(self, sequences: Sequences) -> Tensor:
        """[S, D] the state at the last completion token."""
        last = sequences.prompt_lengths[sequences.prompt_of] + sequences.completion_lengths - 1
        return self.layout.states(self._backbone, sequences, last, torch.ones_like(last))

    def prompt_hidden(self, sequences: Sequences) -> Tensor:
        """[N, D] the state at the last prompt token."""
        lengths = sequences.prompt_lengths
        ends = lengths.cumsum(0) - 1  # a row has a completion: the last prompt token once more, which no state before it sees
        rows = Sequences(
            sequences.prompt_ids, lengths, sequences.prompt_ids[ends], torch.ones_like(lengths),
            torch.arange(len(lengths), device=lengths.device),
        )
        return self.layout.states(self._backbone, rows, lengths - 1, torch.ones_like(lengths))

    def token_logps(self, sequences: Sequences, entropy: bool = False) -> TokenLogps:
        """log pi of completion tokens in nats; no [T, V] tensor is ever alive."""
        head, settings = self.causal.get_output_embeddings(), head_settings(self.causal.config)
        values, entropies = linear_logps(
            self.hidden(sequences), head.weight, sequences.completion_ids, bias=getattr(head, "bias", None), entropy=entropy, **settings
        )
        return TokenLogps(values, entropies)

    @torch.no_grad()
    def head_parity(self, sequences: Sequences) -> float:
        """Largest difference in nats between the chunked head and the model's own dense logits on these sequences."""
        apart = 0.0
        values = self.token_logps(sequences).values.split(sequences.completion_lengths.tolist())
        prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
        completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
        for prompt, completion, found in zip(sequences.prompt_of.tolist(), completions, values, strict=True):
            ids = torch.cat([prompts[prompt], completion])[None]
            logits = self.net(input_ids=ids, use_cache=False).logits[0, len(prompts[prompt]) - 1 : -1].float()
            dense = logits.log_softmax(-1).gather(1, completion[:, None])[:, 0]
            apart = max(apart, float((dense - found).abs().max()))
        return apart

    # ---- where it comes from

    def _described(self) -> str | None:
        """The folder or hub name that holds configuration and tokenizer."""
        if self.source is None:
            return None
        return str(part_description(self.source, trunk_of(self.source))) if is_run(self.source) else self.source

    def _load(self) -> Any:
        from transformers import AutoConfig, AutoModelForCausalLM

        dtype = getattr(torch, self.dtype_name or "float32")
        shared = {"trust_remote_code": self.trust_remote_code}
        attention = {} if self.attention is None else {"attn_implementation": self.attention}
        if self.config is not None or is_run(self.source):
            configuration = self._configuration()
            net = AutoModelForCausalLM.from_config(configuration, dtype=dtype, **shared, **attention)
            if self.source is not None and self.config is None:
                net = _from_run(net, self.source)
            return net
        with _quiet_loading():
            return _readable(
                self.source,
                lambda: AutoModelForCausalLM.from_pretrained(
                    _located(self.source), dtype=dtype, revision=self.revision, use_safetensors=True, **shared, **attention
                ),
            )

    def _configuration(self) -> Any:
        from transformers import AutoConfig

        given = dict(self.config or {})
        if self.source is None:
            return AutoConfig.for_model(given.pop("model_type"), **given)
        described = self._described()
        return _readable(
            described,
            lambda: AutoConfig.from_pretrained(_located(described), trust_remote_code=self.trust_remote_code, revision=self.revision, **given),
        )


def as_model(model: LanguageModel | str) -> LanguageModel:
    """A model by its source, or as it is."""
    return LanguageModel(model) if isinstance(model, str) else model


def merged_net(net: Any) -> Any:
    """The network without adapters: W + scale B A in fresh tensors, the original left as it is."""
    if not hasattr(net, "merge_and_unload"):
        return net
    import copy

    return copy.deepcopy(net).merge_and_unload()


def head_settings(config: Any) -> dict[str, Any]:
    """What an architecture does to its logits: z = softcap * tanh(scale * h W^T / softcap)."""
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)
    factor = 1.0 if scale is None else float(scale)
    return {
        "scale": factor if divisor is None else factor / float(divisor),
        "softcap": getattr(config, "final_logit_softcapping", None),
    }


def without_dropout(net: nn.Module) -> None:
    """Sets every dropout probability of a network to 0: layers, and the numbers that attention modules keep."""
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "attn_dropout", "dropout", "dropout_p"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _from_run(net: Any, source: str) -> Any:
    """Loads a run's weights; where the run trained adapters they are merged."""
    part = trunk_of(source)
    described, weights = part_description(source, part), load_part(source, f"{part}.model.net.")
    if (described / "adapter_config.json").exists():
        from peft import PeftConfig, get_peft_model

        wrapped = get_peft_model(net, PeftConfig.from_pretrained(described))
        wrapped.load_state_dict(weights)
        return wrapped.merge_and_unload()
    net.load_state_dict(weights)
    return net


def _located(source: str) -> str:
    """A shipped model's folder, or the source as it is."""
    return str(Path(__file__).parents[1] / BUILT_IN[source]) if source in BUILT_IN else source


def _readable(source: str, load: Any) -> Any:
    try:
        return load()
    except (OSError, ValueError) as error:
        local = os.path.sep in source and (source.startswith((".", "/")) or Path(source).parent.is_dir())
        kind = "folder" if local or Path(source).exists() else "hub repository, folder or run"
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{source}: cannot be read as a {kind}: {first}") from error


class _quiet_loading:
    """No progress bar while weights are read or written."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()

    def __exit__(self, *error: object) -> None:
        from transformers.utils import logging

        if self._shown:
            logging.enable_progress_bar()
