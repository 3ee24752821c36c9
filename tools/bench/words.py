"""A tokenizer for rows of ids: the text `wI` is the token I; the last two ids are the pad token and the terminator."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Token `wI` has id I; `<pad>` and `</s>` are the last two of `vocabulary` ids."""
    words = {f"w{index}": index for index in range(vocabulary - 2)} | {"<pad>": vocabulary - 2, "</s>": vocabulary - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")


def as_text(ids: list[int], end: int) -> str:
    """The text that the tokenizer reads back to these ids, without the terminator, which TRL appends itself."""
    return "".join(f" w{index}" for index in ids if index != end)
