"""Files and folders of every kind as tables of rows."""

import gzip
import json

import pytest

from lit_rlhf.data.records import RowError
from lit_rlhf.data.sources import Source, quiet, tables
from lit_rlhf.errors import InputError

ROWS = [{"prompt": "a\u2028b", "n": 1}, {"prompt": "é", "n": [1, 2]}]


def rows_of(path, tmp_path, **source):
    found = tables(Source(str(path), **source), cache_dir=str(tmp_path / "cache"))
    return [(table.place(index), table.row(stored)) for table in found for index, stored in enumerate(table.data)]


def write_lines(path, rows=ROWS):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_json_lines_may_mix_types(tmp_path):
    path = write_lines(tmp_path / "a.jsonl")
    assert rows_of(path, tmp_path) == [("a.jsonl:1", ROWS[0]), ("a.jsonl:2", ROWS[1])]


def test_compressed_json_lines(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(write_lines(tmp_path / "a.jsonl").read_bytes()))
    assert [row for _, row in rows_of(path, tmp_path)] == ROWS


@pytest.mark.parametrize("value", [ROWS, {"version": 1, "data": ROWS}])
def test_a_whole_json_file(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value, indent=1))
    assert [row for _, row in rows_of(path, tmp_path)] == ROWS


def test_json_lines_under_another_name(tmp_path):
    assert [row for _, row in rows_of(write_lines(tmp_path / "a.json"), tmp_path)] == ROWS


def test_cells_of_a_table_are_text_and_never_missing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion,reward\n"a, b",NA,0.5\nnull,,1\n')
    assert [row for _, row in rows_of(path, tmp_path)] == [
        {"prompt": "a, b", "completion": "NA", "reward": "0.5"},
        {"prompt": "null", "completion": "", "reward": "1"},
    ]
    path = tmp_path / "b.tsv"
    path.write_text("prompt\tcompletion\na,b\tc\n")
    assert rows_of(path, tmp_path) == [("b.tsv:1", {"prompt": "a,b", "completion": "c"})]


def test_parquet_and_lines_of_text(tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"prompt": "a", "responses": [{"text": "b", "reward": 1.0}]}]),
        tmp_path / "a.parquet",
    )
    assert rows_of(tmp_path / "a.parquet", tmp_path) == [
        ("a.parquet:1", {"prompt": "a", "responses": [{"text": "b", "reward": 1.0}]})
    ]
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert rows_of(tmp_path / "a.txt", tmp_path) == [("a.txt:1", {"text": "one"}), ("a.txt:2", {"text": "two"})]


def test_a_folder_that_datasets_saved_and_one_of_files(tmp_path):
    import datasets

    with quiet():
        datasets.Dataset.from_list([{"text": "x"}]).save_to_disk(tmp_path / "saved")
    assert [row for _, row in rows_of(tmp_path / "saved", tmp_path)] == [{"text": "x"}]
    (tmp_path / "files").mkdir()
    write_lines(tmp_path / "files" / "train.jsonl", [{"text": "y"}])
    assert [row for _, row in rows_of(tmp_path / "files", tmp_path)] == [{"text": "y"}]


def test_a_pattern_names_every_file_in_order_and_rows_counts_over_them(tmp_path):
    for name in "ba":
        write_lines(tmp_path / f"{name}.jsonl")
    assert [place for place, _ in rows_of(tmp_path / "*.jsonl", tmp_path, rows=3)] == [
        "a.jsonl:1",
        "a.jsonl:2",
        "b.jsonl:1",
    ]


def test_unreadable_lines_are_errors_of_their_row_and_blank_lines_none(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n\n{"text": \n[1]\n')
    (table,) = tables(Source(str(path)), cache_dir=str(tmp_path / "cache"))
    assert table.row(table.data[1]) is None and table.columns() == ["text"]
    with pytest.raises(RowError, match=r"no JSON: .*; found '\{\"text\":'"):
        table.row(table.data[2])
    with pytest.raises(RowError, match="found a list of 1, the first 1, expected an object"):
        table.row(table.data[3])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("rews.jsonl", r"rews.jsonl: no such file \(did you mean .*rows.jsonl\?\)"),
        ("nowhere/x.csv", "no such file: there is no folder"),
        ("*.parquet", "no file matches"),
        ("image.png", "unknown kind of file; expected .jsonl"),
        ("broken.json", "broken.json: no JSON"),
        ("number.json", "found 3, expected a list of rows"),
        ("latin.jsonl", "latin.jsonl: not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, sentence):
    write_lines(tmp_path / "rows.jsonl")
    (tmp_path / "image.png").write_bytes(b"x")
    (tmp_path / "broken.json").write_text("[1,")
    (tmp_path / "number.json").write_text("3")
    (tmp_path / "latin.jsonl").write_bytes('{"text": "é"}'.encode("latin-1"))
    with pytest.raises(InputError, match=sentence):
        tables(Source(str(tmp_path / name)), cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_an_empty_file_is_named(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=f"{name}: the file is empty, expected rows"):
        tables(Source(str(tmp_path / name)))


def test_what_is_for_hub_data_sets_is_refused_with_a_file(tmp_path):
    with pytest.raises(InputError, match="is a file; subset, split and revision are for hub data sets"):
        tables(Source(str(write_lines(tmp_path / "a.jsonl")), split="train"))


@pytest.mark.parametrize("argument", [{"weight": 0.0}, {"rows": 0}])
def test_arguments_out_of_range_are_refused(argument):
    with pytest.raises(InputError, match=r"expected (more than 0|1 or more)"):
        Source("a.jsonl", **argument)


def test_the_parts_of_a_hub_name(monkeypatch):
    import datasets

    asked = []
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda path, **given: asked.append((path, given)) or datasets.Dataset.from_list([{"text": "x"}]),
    )
    (table,) = tables(Source("owner/name/some/folder#test", revision="main"))
    ((path, given),) = asked
    assert (path, given["data_dir"], given["split"], given["revision"]) == ("owner/name", "some/folder", "test", "main")
    assert table.place(0) == "owner/name/some/folder#test:1"
    tables(Source("squad"))
    assert (asked[1][0], asked[1][1]["data_dir"], asked[1][1]["split"]) == ("squad", None, "train")


def test_nothing_is_printed_and_no_connection_opened(tmp_path, monkeypatch, capfd):
    import socket

    calls = []
    monkeypatch.setattr(socket.socket, "connect", lambda *given: calls.append(given))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: calls.append(given) or [])
    assert len(rows_of(write_lines(tmp_path / "a.jsonl"), tmp_path)) == 2
    assert calls == [] and capfd.readouterr() == ("", "")


def test_quiet_leaves_the_settings_as_they_were():
    import datasets

    before = (
        datasets.are_progress_bars_disabled(),
        datasets.logging.get_verbosity(),
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS,
    )
    with quiet():
        assert datasets.are_progress_bars_disabled()
    assert (
        datasets.are_progress_bars_disabled(),
        datasets.logging.get_verbosity(),
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS,
    ) == before
