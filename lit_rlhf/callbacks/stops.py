"""The tokens that end a completion."""

from __future__ import annotations

from lit_rlhf.components.language_model import LanguageModel


def stop_ids(model: LanguageModel) -> tuple[int, ...]:
    """The tokenizer's EOS and those of the model's generation settings (a chat model may have several), sorted."""
    own = model.tokenizer.eos_token_id
    return tuple(sorted({*model.stop_ids, *(() if own is None else (own,))}))
