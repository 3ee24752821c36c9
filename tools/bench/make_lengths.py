"""Token lengths of a preference file: `python tools/bench/make_lengths.py FILE [OUT]`.

FILE is the public hh-rlhf test file of harmless-base (`{"chosen": ..., "rejected": ...}` a line, gzipped or not), both
whole transcripts. Writes one line `prompt,chosen,rejected` for every pair whose two prompts are equal, in the order of
the file, counted with a byte-level BPE tokenizer of 8,192 entries trained on the same text; the terminator of a
completion counts as one token, and no text is kept.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TURN = "\n\nAssistant:"
LENGTHS = Path(__file__).with_name("lengths_hh_harmless.csv")
FIELDS = ("prompt", "chosen", "rejected")


def split_last_turn(transcript: str) -> tuple[str, str]:
    """The transcript up to and with the last assistant's name, and what it answers."""
    head, tail = transcript.rsplit(TURN, 1)
    return head + TURN, tail


def pairs_of(lines: Iterator[str]) -> Iterator[tuple[str, str, str]]:
    """(prompt, chosen, rejected) of the rows that have one prompt."""
    for line in lines:
        row = json.loads(line)
        prompt, chosen = split_last_turn(row["chosen"])
        other_prompt, rejected = split_last_turn(row["rejected"])
        if prompt == other_prompt:
            yield prompt, chosen, rejected


def train_tokenizer(texts: list[str], entries: int = 8192) -> Tokenizer:
    """A byte-level BPE tokenizer of this many entries; the same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=entries, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def lengths_of(pairs: list[tuple[str, str, str]]) -> list[tuple[int, int, int]]:
    """Tokens of prompt, chosen and rejected, the terminator of a completion included."""
    texts = [text for pair in pairs for text in pair]
    encoded = [len(encoding.ids) for encoding in train_tokenizer(texts).encode_batch(texts)]
    return [(prompt, chosen + 1, rejected + 1) for prompt, chosen, rejected in zip(*[iter(encoded)] * 3, strict=True)]


def read_lengths(path: Path = LENGTHS) -> list[tuple[int, int, int]]:
    """The committed list, in the order of the public file."""
    with path.open(newline="") as file:
        return [tuple(int(row[field]) for field in FIELDS) for row in csv.DictReader(file)]


def main(source: str, target: str = str(LENGTHS)) -> None:
    opened = gzip.open(source, "rt") if source.endswith(".gz") else open(source)
    with opened as file:
        lengths = lengths_of(list(pairs_of(file)))
    with open(target, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([FIELDS, *lengths])
    print(f"{len(lengths)} pairs written to {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
