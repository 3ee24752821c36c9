"""Byte-level tokenizers of a few merges, so that a test can say by hand how a text is cut."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level(text: str) -> str:
    """How a byte-level vocabulary spells a text."""
    return "".join(
        piece for piece, _ in pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    )


def byte_tokenizer(
    *words: str,
    bos: str | None = None,
    eos: str | None = "<eos>",
    specials: tuple[str, ...] = (),
    template: str | None = None,
) -> PreTrainedTokenizerFast:
    """One token per byte and one per given word (and per beginning of a word); `bos` is put before every text."""
    vocabulary, merges = {piece: index for index, piece in enumerate(ALPHABET)}, []
    for word in words:
        pieces = byte_level(word)
        for end in range(1, len(pieces)):
            if pieces[: end + 1] not in vocabulary:
                merges.append((pieces[:end], pieces[end]))
                vocabulary[pieces[: end + 1]] = len(vocabulary)
    backend = Tokenizer(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([name for name in (bos, eos, *specials) if name])
    steps = [processors.ByteLevel(trim_offsets=True)]
    if bos:
        steps.append(
            processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))])
        )
    backend.post_processor = processors.Sequence(steps)
    named = {name: value for name, value in (("bos_token", bos), ("eos_token", eos), ("pad_token", eos)) if value}
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **named)


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """The tokens of a text, without anything added."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]
