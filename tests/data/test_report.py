"""The data report in words, in markdown and as plain values."""

import json

import numpy as np
from tokens import byte_tokenizer, ids

from lit_rlhf.data.coverage import Coverage
from lit_rlhf.data.records import Group, Pair
from lit_rlhf.data.report import DataReport, Lengths, SplitReport, sample_text

REPORT = DataReport(
    sources=("a.jsonl: preference (chosen, rejected)",),
    signal="preference",
    splits={
        "train": SplitReport(
            rows=10,
            kept=7,
            truncated=1,
            dropped={"wrong": 2, "too long": 1},
            completions=14,
            pairs=7,
            straddles=3,
            empties=1,
            ties=2,
            prompt_lengths=Lengths.of([1, 2, 3]),
            completion_lengths=Lengths.of([4]),
            trained=0.5,
            coverage=Coverage(7, 14, 7, 7, 7, 7),
        ),
        "val": SplitReport(rows=2, kept=2),
    },
    wrong=("a.jsonl:3: column chosen: missing",),
    tokenizer="tiny, 12 tokens",
    template="plain",
    stop_set="'<eos>' (2, tokenizer)",
    samples=("a.jsonl:1: Hi\nchosen: ⟦ there<eos>⟧",),
)


def test_every_row_is_accounted_for_in_words():
    text = REPORT.text()
    assert "train: 10 rows, 7 kept, 1 of them cut, 2 dropped (wrong), 1 dropped (too long)" in text
    assert "straddles: 3 " in text and "ties: 2 pairs" in text and "empty: 1 " in text
    assert "wrong: a.jsonl:3: column chosen: missing" in text and "stop set: '<eos>' (2, tokenizer)" in text
    assert "trained: 50.0% of all tokens" in text and "⟦ there<eos>⟧" in text
    assert "7 prompts, 2.0 responses and 1.0 pairs each; 100% of prompts connected" in text
    assert "\x1b" not in text


def test_markdown_has_a_column_for_each_split():
    table = [line for line in REPORT.markdown().splitlines() if line.startswith("|")]
    assert table[0] == "| | train | val |" and {line.count("|") for line in table} == {4}
    assert "```text\na.jsonl:1: Hi" in REPORT.markdown()


def test_plain_values_are_json():
    found = json.loads(json.dumps(REPORT.as_dict()))
    assert found["splits"]["train"]["dropped"] == {"wrong": 2, "too long": 1}
    assert found["splits"]["train"]["prompt_lengths"]["most"] == 3


def test_quantiles_are_lengths_that_occur():
    assert Lengths.of(range(1, 101)) == Lengths(1, 51, 91, 100, 100)
    assert Lengths.of([]) == Lengths(0, 0, 0, 0, 0)


def test_a_sample_marks_the_trained_tokens():
    tokenizer = byte_tokenizer()
    completion = np.array(ids(tokenizer, "abcd"))
    weights = np.array([1.0, 0.0, 1.0, 1.0])
    pair = Group(
        np.array(ids(tokenizer, "Q")),
        (completion, completion[:1]),
        (weights, weights[:1]),
        pairs=(Pair(1, 0),),
        row="f:1",
    )
    assert sample_text(pair, tokenizer) == "f:1: Q\nrejected: ⟦a⟧b⟦cd⟧\nchosen: ⟦a⟧"


def test_a_sample_shows_a_part_of_what_is_long():
    tokenizer = byte_tokenizer()
    long = np.array(ids(tokenizer, "a" * 600 + "b" * 600))
    text = sample_text(Group(long, (long,) * 6, row="f:1"), tokenizer)
    assert "a [...] b" in text and len(text) < 6 * 600 and text.endswith("and 2 more completions")
