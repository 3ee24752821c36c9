"""A causal language model of transformers behind ragged containers; nothing is read before `build`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_rlhf.components.attention import Layout, Padded
from lit_rlhf.components.heads import OutputForm, measured_form
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.origin import Origin
from lit_rlhf.components.reading import quiet
from lit_rlhf.components.saving import savable_generation, save_description, save_model
from lit_rlhf.errors import InputError
from lit_rlhf.functional.linear_kl import linear_kl
from lit_rlhf.types import Law, Sequences, TokenLogps

Dtype = Literal["float32", "bfloat16", "float16", "float64"]


class LanguageModel(nn.Module):
    """log pi(y_t | x, y_<t) of completion tokens, and the states they are predicted from.

    Policy and reference are computed alike: the model's own dropout is off, also in training, unless asked for. No pad
    token is needed, and none is looked at.

    Args:
        source: a hub name, a folder, a run of ours (`runs/x`, `runs/x:last`, `runs/x:best`), or `lit_rlhf/reviews`, the
            model of the built-in task.
        config: arguments of the model's configuration, `model_type` among them, for random weights; over those of
            `source` where both are given. Vocabulary and special tokens that it does not name are the tokenizer's.
        tokenizer: a hub name or folder; that of `source` when None.
        dtype: of the weights that are not trained (a reference, a reward model that only scores, the network below
            adapters); float32 when None. What is trained is float32, and `trainer.precision` its arithmetic.
        attention: implementation of attention in transformers (`sdpa`, `eager`, `flash_attention_2`, ...).
        lora: adapters; all weights are trained when None.
        gradient_checkpointing: recompute activations in the backward pass.
        dropout: whether the model's own dropout acts in training.
        trust_remote_code: run code that a hub repository brings.
        revision: of the hub repository.
        layout: how sequences become rows; `Padded()` when None.

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
        layout: Layout | None = None,
    ) -> None:
        super().__init__()
        self.origin = Origin(source, config, tokenizer, attention, trust_remote_code, revision)
        self.dtype_name, self.lora, self.dropout = dtype, lora, dropout
        self.gradient_checkpointing, self.layout = gradient_checkpointing, layout or Padded()
        self.net: Any = None
        self.generation_config: Any = None
        self.dropouts: dict[str, float] = {}
        """What the model's configuration says of dropout, by which it is saved."""
        self.form: OutputForm | None = None
        self.width: int | None = None
        """D, once built."""

    @property
    def source(self) -> str | None:
        """Where the weights come from; None for random ones."""
        return self.origin.source if self.origin.config is None else None

    # ---- loading

    def build(self, frozen: bool = False, head: bool = True) -> None:
        """Loads or draws the weights, once.

        Args:
            frozen: nothing of it will be trained.
            head: whether the output head is needed; without it log-probs cannot be asked for.

        Raises:
            InputError: the model cannot be read, is no causal language model with a linear head, or does not fit its
                tokenizer; or `dtype` or `lora` say something of a model that has no such weights.
        """
        if self.net is not None:
            return
        refuse_idle_options(self, frozen)
        net = self.origin.network(getattr(torch, self.dtype_name or "float32"), head)
        _refuse_larger_vocabulary(self, net)
        self.generation_config = savable_generation(net)
        self.dropouts = {} if self.dropout else without_dropout(net)
        self.width = net.get_output_embeddings().weight.shape[1]
        if head:
            self.form = measured_form(net)
        net = net if head else net.base_model
        if frozen:
            self.net = net.requires_grad_(False).eval()
            return
        if self.gradient_checkpointing:
            with quiet():
                net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.net = net.train() if self.lora is None else self.lora.wrap(net.train(), self.source)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; no weights are read."""
        return self.origin.tokenizer()

    def save_description(self, folder: str | Path) -> None:
        """Writes configuration, tokenizer and generation settings, no weights."""
        save_description(self, Path(folder))

    def save(self, folder: str | Path, card: str | None = None) -> None:
        """Writes a folder that `from_pretrained` loads, whole or not at all: safetensors, tokenizer, card.

        Adapters are merged into fresh tensors, and what is trained here stays as it is.

        Args:
            folder: a new one, or an empty one.
            card: the text of its README.md; what the model itself says when None.

        Raises:
            InputError: the folder has files.
        """
        save_model(self, Path(folder), card)

    # ---- the network

    @property
    def base(self) -> Any:
        """The transformers model, adapters inside it; the backbone itself for a model without head."""
        return self.net.get_base_model() if hasattr(self.net, "peft_config") else self.net

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a completion by the model's generation settings."""
        ids = getattr(self.generation_config, "eos_token_id", None)
        return () if ids is None else tuple(ids) if isinstance(ids, list) else (ids,)

    def stop_at(self, ids: Iterable[int]) -> None:
        """Writes ids that end its completions into the generation settings, with those that are there."""
        if self.generation_config is not None and not {*ids} <= {*self.stop_ids}:
            self.generation_config.eos_token_id = sorted({*self.stop_ids, *ids})

    @property
    def backbone(self) -> Any:
        """The transformers model without its output head."""
        return self.base if self.form is None else self.base.base_model

    @property
    def output_head(self) -> nn.Module:
        """The linear map W, b from a state to the logits that `form` completes."""
        return self.base.get_output_embeddings()

    def _backbone(self, input_ids: Tensor) -> Tensor:
        return self.backbone(input_ids=input_ids, use_cache=False).last_hidden_state

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
        ends = sequences.prompt_ids[lengths.cumsum(0) - 1]  # rows have completions: any token, unseen by what is before
        each = torch.arange(len(lengths), device=lengths.device)
        rows = Sequences(sequences.prompt_ids, lengths, ends, torch.ones_like(lengths), each)
        return self.layout.states(self._backbone, rows, lengths - 1, torch.ones_like(lengths))

    def token_logps(
        self,
        sequences: Sequences,
        entropy: bool = False,
        collision: bool = False,
        law: Law | None = None,
        hidden: Tensor | None = None,
    ) -> TokenLogps:
        """log pi of completion tokens in nats; see `OutputForm.logps` for what else may be asked for.

        Args:
            sequences: S completions of N prompts.
            entropy: of pi at temperature 1, unfiltered, as `values` are.
            collision: of the same distribution.
            law: by which the tokens were sampled; `acting` is filled with their log-probs under it.
            hidden: [T, D] what `hidden` gave for these sequences, where a caller has it.
        """
        head, ids = self.output_head, sequences.completion_ids
        hidden = self.hidden(sequences) if hidden is None else hidden
        values, entropies, collisions = self.form.logps(head, hidden, ids, entropy, collision)
        acting = None if law is None else self.form.logps(head, hidden, ids, law=law)[0]
        return TokenLogps(values, entropies, collisions, acting)

    @torch.no_grad()
    def token_kl(
        self, sequences: Sequences, other: LanguageModel, hidden: Tensor | None = None, others: Tensor | None = None
    ) -> Tensor:
        """[T] KL(pi || u) of the next-token distributions at every completion token, in nats, over the vocabulary.

        Args:
            sequences: S completions of N prompts.
            other: u
            hidden: [T, D] the states of this model, where a caller has them.
            others: [T, D'] those of the other.

        Raises:
            InputError: the two have other numbers of tokens.
        """
        hidden = self.hidden(sequences) if hidden is None else hidden
        others = other.hidden(sequences) if others is None else others
        refuse_other_size(self, other)
        own, its = self.form.projected(self.output_head, hidden), other.form.projected(other.output_head, others)
        return linear_kl(own, its)

    @torch.no_grad()
    def head_parity(self, sequences: Sequences) -> float:
        """The largest difference in nats between `token_logps` and a dense log-softmax of the model's own logits.

        Each sequence is run alone and without padding, so layout and head are compared at once.
        """
        apart, values = 0.0, self.token_logps(sequences).values.split(sequences.completion_lengths.tolist())
        prompts = sequences.prompt_ids.split(sequences.prompt_lengths.tolist())
        completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
        for prompt, completion, found in zip(sequences.prompt_of.tolist(), completions, values, strict=True):
            ids = torch.cat([prompts[prompt], completion])[None]
            logits = self.net(input_ids=ids, use_cache=False).logits[0, len(prompts[prompt]) - 1 : -1].float()
            dense = logits.log_softmax(-1).gather(1, completion[:, None])[:, 0]
            apart = max(apart, float((dense - found).abs().max()))
        return apart


def as_model(model: LanguageModel | str) -> LanguageModel:
    """A model by its source, or as it is."""
    return LanguageModel(model) if isinstance(model, str) else model


def as_trained(model: LanguageModel | str) -> LanguageModel:
    """`as_model` for a part that is always trained.

    Raises:
        InputError: `dtype` is given, and no weight is frozen.
    """
    model = as_model(model)
    refuse_idle_options(model, frozen=False)
    return model


def refuse_other_tokens(model: LanguageModel, trained: LanguageModel, key: str) -> None:
    """Two models that read the same ids; no weights are read.

    Raises:
        InputError: an id stands for another token in `model`, which `key` names, than in `trained`.
    """
    if not (trained.origin.has_tokenizer and model.origin.has_tokenizer):
        return
    own, its = model.tokenizer.get_vocab(), trained.tokenizer.get_vocab()
    if own != its:
        token = next(token for token in {**its, **own} if own.get(token) != its.get(token))
        name = model.source or "a model with random weights"
        raise InputError(
            f"{key}: {name} has other tokens than the actor ({token!r} is {own.get(token)} there and {its.get(token)} "
            "here): it would read other texts. Name a model with the actor's tokenizer"
        )


def refuse_other_size(model: LanguageModel, other: LanguageModel) -> None:
    """Raises: InputError: the output heads have other numbers of tokens, so that distributions cannot be compared."""
    own, its = len(model.output_head.weight), len(other.output_head.weight)
    if own != its:
        raise InputError(
            f"model.reference: the policy's output head has {own} tokens and that of {other.source or 'the reference'} "
            f"{its}; distributions over them cannot be compared. Name a model with a head of the same size"
        )


def refuse_idle_options(model: LanguageModel, frozen: bool) -> None:
    """Raises: InputError: an option that would have no effect on this model."""
    if frozen and model.lora is not None:
        raise InputError("LanguageModel.lora: this model is not trained, so adapters would do nothing; leave them out")
    if not frozen and model.lora is None and model.dtype_name not in (None, "float32"):
        raise InputError(
            f"LanguageModel.dtype is {model.dtype_name}, and all weights of this model are trained: it says how frozen "
            "weights are stored. Leave it out; the precision of training is trainer.precision (bf16-mixed)"
        )


def without_dropout(net: Any) -> dict[str, float]:
    """Sets every dropout probability of a network to 0: layers, and the numbers that modules and configuration keep.

    Returns:
        What the configuration said.
    """
    for module in net.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name in _dropouts(vars(module)):
            setattr(module, name, 0.0)
    before = _dropouts(vars(net.config))
    for name in before:
        setattr(net.config, name, 0.0)
    return before


def _dropouts(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if "drop" in name and isinstance(value, float)}


def _refuse_larger_vocabulary(model: LanguageModel, net: Any) -> None:
    if model.origin.tokenizer_source is None:
        return
    known, needed = net.get_input_embeddings().num_embeddings, len(model.tokenizer)
    if needed > known:
        raise InputError(
            f"LanguageModel.tokenizer: {model.origin.tokenizer_source} has {needed} tokens and the model knows "
            f"{known}; name the tokenizer the model was made with"
        )
