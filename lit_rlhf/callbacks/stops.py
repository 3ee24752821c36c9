"""The tokens that end a completion."""

from __future__ import annotations

from typing import Any


def stop_ids(model: Any) -> tuple[int, ...]:
    """The tokenizer's EOS and those of the model's generation settings (a chat model may name several), in order of id.

    Args:
        model: a built `LanguageModel`.
    """
    settings = getattr(model.net, "generation_config", None)
    listed = getattr(settings, "eos_token_id", None)
    listed = listed if isinstance(listed, list | tuple) else [listed]
    return tuple(sorted({token for token in (model.tokenizer.eos_token_id, *listed) if token is not None}))
