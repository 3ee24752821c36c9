"""Rows that are read as they are needed."""

import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from tokens import byte_tokenizer

from lit_rlhf.data.modules import Files
from lit_rlhf.data.sources import Source
from lit_rlhf.errors import InputError

PREFERENCE = frozenset({"chosen", "rejected"})


def pairs(n, start=0):
    return [{"prompt": f"Q{index}:", "chosen": f" yes {index}", "rejected": " no"} for index in range(start, start + n)]


def write(path, rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return str(path)


def stream(train, tmp_path, needs=PREFERENCE, **arguments):
    data = Files(train, streaming=True, cache_dir=str(tmp_path / "cache"), **({"batch_size": 4} | arguments))
    data.attach(SimpleNamespace(needs=needs, tokenizer=byte_tokenizer()))
    data.setup("fit")
    return data


def rows(data, number=0):
    return [group.row for group in data.groups("train").read(number)]


def test_every_row_comes_once_in_a_pass_in_an_order_of_its_own(tmp_path):
    data = stream(write(tmp_path / "a.jsonl", pairs(30)), tmp_path)
    first, second = rows(data, 0), rows(data, 1)
    assert sorted(first) == sorted(second) == sorted(f"a.jsonl:{i}" for i in range(1, 31))
    assert first != second and rows(data, 0) == first
    assert rows(stream(data.sources["train"][0].path, tmp_path, shuffle_buffer=1)) == [
        f"a.jsonl:{i}" for i in range(1, 31)
    ]


def test_a_stream_gives_the_groups_that_stored_rows_give(tmp_path):
    path = write(tmp_path / "a.jsonl", pairs(5))
    stored = Files(path, cache_dir=str(tmp_path / "cache"))
    stored.attach(SimpleNamespace(needs=PREFERENCE, tokenizer=byte_tokenizer()))
    stored.setup("fit")
    streamed = {group.row: group for group in stream(path, tmp_path).groups("train").read(0)}
    for group in stored.groups("train"):
        assert (
            streamed[group.row].prompt_ids.tolist() == group.prompt_ids.tolist()
            and streamed[group.row].pairs == group.pairs
        )


def test_items_restart_where_they_stopped(tmp_path):
    path = write(tmp_path / "a.jsonl", pairs(10))
    whole = [item[0].sequences.prompt_ids for item in itertools.islice(stream(path, tmp_path).train_dataloader(), 6)]
    again = stream(path, tmp_path)
    again.load_state_dict(stream(path, tmp_path).state_dict() | {"position": 2})
    rest = [item[0].sequences.prompt_ids for item in itertools.islice(again.train_dataloader(), 4)]
    assert all(torch.equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
def test_other_files_are_streamed_too(tmp_path, suffix):
    import pandas

    frame, path = pandas.DataFrame(pairs(4)), tmp_path / f"a.{suffix}"
    {
        "json": lambda: path.write_text(json.dumps(pairs(4))),
        "csv": lambda: frame.to_csv(path, index=False),
        "parquet": lambda: frame.to_parquet(path),
    }[suffix]()
    assert rows(stream(str(path), tmp_path, shuffle_buffer=1)) == [f"a.{suffix}:{i}" for i in range(1, 5)]


def test_a_wrong_row_stops_the_run_and_is_named(tmp_path):
    with pytest.raises(InputError, match=r"data: 1 of 4 rows are wrong(?s:.*)a.jsonl:4: column rejected: missing"):
        stream(write(tmp_path / "a.jsonl", [*pairs(3), {"prompt": "a", "chosen": "b"}]), tmp_path)


def test_a_wrong_row_behind_the_first_thousand_is_named_when_it_comes(tmp_path):
    path = write(tmp_path / "a.jsonl", [*pairs(1005), "{"])
    data = stream(path, tmp_path, shuffle_buffer=1)
    with pytest.raises(
        InputError, match=r"a.jsonl:1006: no JSON(?s:.*)1 wrong rows of 1006 read, and data.tolerate is 0"
    ):
        rows(data)
    assert len(rows(stream(path, tmp_path, tolerate=0.01))) == 1005


def test_a_row_that_is_too_long_stops_the_run_unless_a_policy_is_set(tmp_path):
    path = write(tmp_path / "a.jsonl", [*pairs(2), {"prompt": "x" * 50, "chosen": "a", "rejected": "b"}])
    with pytest.raises(InputError, match="too long"):
        stream(path, tmp_path, max_length=20)
    assert len(rows(stream(path, tmp_path, max_length=20, overflow="drop"))) == 2


def test_sources_are_mixed_in_proportion_to_their_weights(tmp_path):
    first, second = write(tmp_path / "a.jsonl", pairs(40)), write(tmp_path / "b.jsonl", pairs(40, 100))
    found = rows(stream([Source(first, weight=3.0), Source(second, weight=1.0)], tmp_path, shuffle_buffer=1))
    share = sum(row.startswith("a") for row in found[:40]) / 40
    assert 0.6 < share < 0.9 and {f"b.jsonl:{i}" for i in range(1, 41)} <= set(found)


def test_the_report_is_of_the_first_rows_and_says_so(tmp_path):
    report = stream(write(tmp_path / "a.jsonl", pairs(7)), tmp_path).report
    assert (
        report.splits["train"].rows == 7
        and "a stream: the counts of train are those of its first 1000 rows" in report.notes
    )


def test_flat_scored_rows_cannot_be_paired_in_a_stream(tmp_path):
    flat = [{"prompt": "Q", "completion": f" {index}", "reward": index} for index in range(4)]
    path = write(tmp_path / "a.jsonl", flat)
    with pytest.raises(InputError, match="a stream does not bring rows with the same prompt together"):
        stream(path, tmp_path)
    assert len(rows(stream(path, tmp_path, needs=frozenset({"reward"})))) == 4
