"""What both sides are given: lengths of public data, ids that a tokenizer can spell, items of eight pairs."""

import json

import pytest
from make_lengths import FIELDS, LENGTHS, lengths_of, pairs_of, read_lengths, split_last_turn
from words import as_text, make_tokenizer
from workload import PAIRS_PER_STEP, VOCABULARY, Workload, make_workload

END = VOCABULARY - 1


def test_the_committed_lengths_are_whole_pairs():
    lengths = read_lengths()
    assert LENGTHS.read_text().splitlines()[0] == ",".join(FIELDS)
    assert len(lengths) == len(LENGTHS.read_text().splitlines()) - 1
    assert all(len(row) == 3 and min(row) >= 1 for row in lengths)


def test_rows_have_the_lengths_of_the_data_and_end_with_the_terminator():
    workload = make_workload("hh_harmless", warmup=1, steps=3)
    assert [len(item) for item in workload.items] == [PAIRS_PER_STEP] * 4
    known = set(read_lengths())
    for prompt, chosen, rejected in workload.rows:
        assert (len(prompt), len(chosen), len(rejected)) in known
        assert chosen[-1] == rejected[-1] == END
        assert max(prompt + chosen[:-1] + rejected[:-1]) < VOCABULARY - 2
    assert make_workload("hh_harmless", 1, 3) == workload
    assert make_workload("hh_harmless", 1, 3, seed=1) != workload


def test_tokens_of_the_measured_steps():
    sizes = [(2, 3)] * PAIRS_PER_STEP + [(4, 1 + i) for i in range(PAIRS_PER_STEP)]
    rows = [([7] * prompt, [7] * (size - 1) + [END], [END]) for prompt, size in sizes]
    tokens = Workload("made", 1, 1, rows).tokens()
    completions = sum(1 + i + 1 for i in range(8))
    assert tokens == {"raw": 2 * 4 * 8 + completions, "unique": 4 * 8 + completions, "padded": 16 * (4 + 8)}


def test_the_seed_stands_for_the_data():
    few, all_pairs = make_workload("hh_harmless", 1, 2), read_lengths()
    tokens = few.tokens()
    mean = sum(2 * prompt + chosen + rejected for prompt, chosen, rejected in all_pairs) / len(all_pairs)
    assert tokens["raw"] / (few.steps * PAIRS_PER_STEP) == pytest.approx(mean, rel=0.05)
    many = make_workload("hh_harmless", 1, 200).tokens()
    assert tokens["padded"] / tokens["raw"] == pytest.approx(many["padded"] / many["raw"], rel=0.05)


def test_equal_lengths():
    assert {tuple(map(len, row)) for row in make_workload("5,3", 1, 1).rows} == {(5, 3, 3)}
    with pytest.raises(ValueError):
        make_workload("5", 1, 1)


def test_a_workload_survives_the_disk(tmp_path):
    workload = make_workload("5,3", 1, 1)
    workload.save(tmp_path)
    read = Workload.load(tmp_path)
    assert read.rows == [list(row) for row in workload.rows]
    assert (read.name, read.warmup, read.steps) == ("5,3", 1, 1)


def test_text_spells_the_ids():
    tokenizer = make_tokenizer(9)
    for ids in ([0, 6, 3, 8], [8], [5]):
        spelt = tokenizer(as_text(ids, end=8), add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        assert spelt == [token for token in ids if token != 8] + [8]


def test_lengths_of_transcripts_whose_prompts_are_equal():
    said = ["\n\nHuman: a\n\nAssistant: b", "\n\nHuman: c\n\nAssistant: d\n\nHuman: e\n\nAssistant:"]
    assert split_last_turn(said[1]) == ("\n\nHuman: c\n\nAssistant: d\n\nHuman: e\n\nAssistant:", "")
    rows = [{"chosen": said[0], "rejected": other} for other in (said[1], said[0] + " b")]
    pairs = list(pairs_of(iter(map(json.dumps, rows))))
    assert [pair[1:] for pair in pairs] == [(" b", " b b")]
    ((prompt, chosen, rejected),) = lengths_of(pairs)
    assert prompt >= 1 and 2 <= chosen < rejected
