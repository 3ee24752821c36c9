"""A start from nothing: a byte-level BPE tokenizer made from your texts, and the configuration of a small Llama for it.

    python tools/make_start.py OUT FILE [FILE ...] [--vocabulary 16384] [--width 256] [--layers 2]

Files are plain text, JSON or JSON lines (every text anywhere in them is read), also compressed with gzip. OUT gets a
tokenizer, config.json and generation settings, and no weights: a recipe names it with `source: OUT` and `config: {}`, and
draws them by its seed. Most parameters of the default, 10.1 million, are embeddings: they cost no arithmetic to look up.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, PreTrainedTokenizerFast

END = "<|end|>"
HEAD = 64
"""Width of an attention head."""


def texts(file: Path) -> Iterator[str]:
    """Every text of a file: a line of plain text, or any string inside JSON, in order.

    Raises:
        ValueError: a line of a .jsonl file is no JSON.
    """
    name = file.name.removesuffix(".gz")
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        if name.endswith(".json"):
            yield from _strings(json.load(lines))
        elif name.endswith((".jsonl", ".ndjson")):
            for number, line in enumerate(lines, 1):
                yield from _strings(_parsed(line, f"{file}:{number}")) if line.strip() else ()
        else:
            yield from lines


def tokenizer(pieces: Iterator[str], vocabulary: int, longest: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `vocabulary` tokens, whose last is the end of a text.

    Raises:
        ValueError: the texts are too few for so many tokens.
    """
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        pieces, trainers.BpeTrainer(vocab_size=vocabulary - 1, initial_alphabet=alphabet, show_progress=False)
    )
    backend.add_special_tokens([END])
    if backend.get_vocab_size() != vocabulary:
        raise ValueError(
            f"the texts give {backend.get_vocab_size()} tokens, fewer than --vocabulary {vocabulary}: give more text or ask for less"
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=END, model_max_length=longest)


def configuration(end: int, vocabulary: int, width: int, layers: int, longest: int) -> LlamaConfig:
    """A Llama with input and output embeddings apart, a feed-forward three times as wide as its states."""
    return LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=width // HEAD, max_position_embeddings=longest, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=end, pad_token_id=end, architectures=["LlamaForCausalLM"],
    )


def parameters(config: LlamaConfig) -> int:
    """How many weights the model of this configuration has; none is allocated."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())


def write(out: Path, words: PreTrainedTokenizerFast, config: LlamaConfig) -> None:
    """The folder, whole or not at all.

    Raises:
        FileExistsError: it is there and has files.
    """
    if out.is_dir() and any(out.iterdir()):
        raise FileExistsError(f"{out}: has files; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        made = Path(folder) / out.name
        words.save_pretrained(made)
        config.save_pretrained(made)
        GenerationConfig(eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id).save_pretrained(made)
        os.replace(made, out)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python tools/make_start.py", description=__doc__.partition("\n")[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.add_argument("files", metavar="FILE", type=Path, nargs="+", help="text, JSON or JSON lines, also .gz")
    parser.add_argument("--vocabulary", type=int, default=16_384, help="tokens (default: %(default)s)")
    parser.add_argument("--width", type=int, default=256, help=f"of the states, a multiple of {HEAD} (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--longest", type=int, default=1024, help="most tokens of a text (default: %(default)s)")
    given = parser.parse_args(arguments)
    if given.width % HEAD:
        parser.error(f"--width {given.width}: expected a multiple of {HEAD}")
    try:
        pieces = (text for file in given.files for text in texts(file))
        words = tokenizer(pieces, given.vocabulary, given.longest)
        config = configuration(words.eos_token_id, given.vocabulary, given.width, given.layers, given.longest)
        write(given.out, words, config)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    print(f"{given.out}: {len(words):,} tokens, {parameters(config):,} parameters, no weights")


def _parsed(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: no JSON: {error}") from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


if __name__ == "__main__":
    main()
