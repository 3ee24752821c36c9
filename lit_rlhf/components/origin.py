"""Where a language model comes from: a hub name, a folder, a run of ours, a shipped model, or a random start."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_rlhf.components.reading import described, file_of, quiet, readable, where
from lit_rlhf.components.runs import is_run, load_part, model_part, part_description
from lit_rlhf.errors import InputError


@dataclass(frozen=True)
class Origin:
    """What is needed to read a model; reading happens when asked for. The arguments are those of `LanguageModel`.

    Raises:
        InputError: neither `source` nor `config`, or a random start without a class.
    """

    source: str | None = None
    config: Mapping[str, Any] | None = None
    tokenizer_source: str | None = None
    attention: str | None = None
    trust_remote_code: bool = False
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.source is None and self.config is None:
            raise InputError(
                "LanguageModel: neither source (a hub name, a folder, a run) nor config (for random weights) is given"
            )
        if self.source is None and "model_type" not in self.config:
            raise InputError(
                "LanguageModel.config: model_type is missing; it names the architecture, as in {model_type: llama}"
            )

    @property
    def has_tokenizer(self) -> bool:
        """Whether one is named, or comes with the source; a random start may do without."""
        if self.tokenizer_source or self.source is None:
            return bool(self.tokenizer_source)
        folder = Path(described(self.source))
        return not folder.is_dir() or any(any(folder.glob(pattern)) for pattern in ("tokenizer*", "*vocab*"))

    def tokenizer(self) -> Any:
        """The tokenizer; no weights are read.

        Raises:
            InputError: none is named, or it cannot be read.
        """
        from transformers import AutoTokenizer

        if not self.has_tokenizer:
            if self.source is not None and not any(Path(described(self.source)).glob("*config.json")):
                raise InputError(f"{self.source}: the folder has no config.json, expected a model of transformers or a run")
            raise InputError(
                f"LanguageModel.tokenizer: {self.source or 'a model with random weights'} has none of its own; name a "
                "hub repository or a folder that has one"
            )
        folder = described(self.tokenizer_source or self.source)
        revision = None if self.tokenizer_source else self.revision
        return readable(
            folder,
            lambda: AutoTokenizer.from_pretrained(
                folder, trust_remote_code=self.trust_remote_code, revision=revision, **where(folder)
            ),
        )

    def configuration(self) -> Any:
        """The model's configuration; no weights are read.

        Raises:
            InputError: it cannot be read, or names no architecture that transformers knows.
        """
        from transformers import AutoConfig

        given = dict(self.config or {})
        if self.source is None:
            given = self._of_tokenizer() | given
            return readable(str(given["model_type"]), lambda: AutoConfig.for_model(given.pop("model_type"), **given))
        folder, trust = described(self.source), self.trust_remote_code
        return readable(
            folder,
            lambda: AutoConfig.from_pretrained(
                folder, trust_remote_code=trust, revision=self.revision, **where(folder), **given
            ),
        )

    @functools.cached_property
    def context(self) -> int | None:
        """Most tokens that the model has positions for; None where its configuration says nothing of it. No weights are read."""
        found = getattr(self.configuration().get_text_config(), "max_position_embeddings", None)
        return found if found is not None and found > 0 else None

    def network(self, dtype: torch.dtype, head: bool = True) -> Any:
        """The causal language model of transformers.

        Args:
            dtype: of the weights.
            head: whether the output head is needed too.

        Raises:
            InputError: it cannot be read, or a weight is missing.
        """
        with quiet():
            if self.config is not None:
                return self._random(self.configuration(), dtype)
            return self._of_run(dtype, head) if is_run(self.source) else self._of_folder(dtype, head)

    def _of_tokenizer(self) -> dict[str, Any]:
        """What a random start takes from its tokenizer, so that no id of the class's default stops a completion."""
        if not self.has_tokenizer:
            return {}
        tokenizer = self.tokenizer()
        ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        return {"vocab_size": len(tokenizer)} | ids

    def _shared(self) -> dict[str, Any]:
        attention = {} if self.attention is None else {"attn_implementation": self.attention}
        return {"trust_remote_code": self.trust_remote_code} | attention

    def _random(self, configuration: Any, dtype: torch.dtype) -> Any:
        from transformers import AutoModelForCausalLM

        name = str(self.source or configuration.model_type)
        return readable(name, lambda: AutoModelForCausalLM.from_config(configuration, dtype=dtype, **self._shared()))

    def _of_folder(self, dtype: torch.dtype, head: bool) -> Any:
        from transformers import AutoModelForCausalLM

        folder = described(self.source)
        adapters = file_of(folder, "adapter_config.json", self.revision)
        if adapters is not None:
            return self._of_adapters(folder, json.loads(adapters.read_text(encoding="utf-8")), head).to(dtype)
        net, found = readable(
            folder,
            lambda: AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, revision=self.revision, use_safetensors=True, output_loading_info=True,
                adapter_kwargs=where(folder), **where(folder), **self._shared(),
            ),
        )
        return _complete(net, found["missing_keys"], self.source, head)

    def _of_adapters(self, folder: str, settings: Mapping[str, Any], head: bool) -> Any:
        """The model that a folder's adapters were trained over, the adapters merged."""
        from peft import PeftModel

        base = dataclasses.replace(self, source=settings["base_model_name_or_path"], revision=None)
        net = base.network(torch.float32, head)
        shared = {"revision": self.revision, **where(folder)}
        merged = readable(folder, lambda: PeftModel.from_pretrained(net, folder, **shared)).merge_and_unload()
        return merged.requires_grad_(True)

    def _of_run(self, dtype: torch.dtype, head: bool) -> Any:
        """A run's model; where the run trained adapters they are merged."""
        adapters, base = _adapters_and_base(load_part(self.source, f"{model_part(self.source)}.model.net."))
        folder, configuration = described(self.source), self.configuration()
        with torch.device("meta"):
            kind = type(self._random(configuration, dtype))
        attention = {} if self.attention is None else {"attn_implementation": self.attention}
        net, found = kind.from_pretrained(
            None, config=configuration, state_dict=base, dtype=torch.float32 if adapters else dtype,
            output_loading_info=True, **attention,
        )
        _complete(net, found["missing_keys"], self.source, head)
        if adapters:
            with_adapters(self.source, net).merge_and_unload()
            net.requires_grad_(True)
        if net.can_generate():
            with contextlib.suppress(OSError):
                net.generation_config = type(net.generation_config).from_pretrained(folder)
        return net.to(dtype)


def with_adapters(run: str, net: Any) -> Any:
    """`net`, or its backbone where the part of the run has no output head, with the adapters that the run trained.

    Raises:
        InputError: they do not fit.
    """
    from peft import PeftConfig, get_peft_model

    adapters, _ = _adapters_and_base(load_part(run, f"{model_part(run)}.model.net."))
    whole = any(_without_adapter(name).startswith(f"{net.base_model_prefix}.") for name in adapters)
    settings = PeftConfig.from_pretrained(part_description(run))
    settings.base_model_name_or_path = None
    with quiet():
        wrapped = get_peft_model(net if whole else net.base_model, settings)
    unknown = wrapped.load_state_dict(adapters, strict=False).unexpected_keys
    if unknown:
        raise InputError(f"{run}: its adapters do not fit its description: {unknown[0]}")
    return wrapped


def _adapters_and_base(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Adapters by peft's names, and all else by the names of the network below them."""
    adapters = {name: value for name, value in weights.items() if "lora_" in name}
    return adapters, {_without_adapter(name): value for name, value in weights.items() if name not in adapters}


def _without_adapter(name: str) -> str:
    """The name of a weight in the network that peft wrapped."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _complete(net: Any, missing: Iterable[str], source: str | None, head: bool) -> Any:
    lost = sorted(name for name in missing if head or name.startswith(f"{net.base_model_prefix}."))
    if lost:
        raise InputError(
            f"{source}: {len(lost)} weights of {type(net).__name__} are missing, {lost[0]} first; a reward model has "
            "no output head, and a folder must hold the weights of this class"
        )
    return net
