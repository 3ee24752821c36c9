"""YAML with places."""

import math
from pathlib import Path

import pytest

from lit_rlhf.config.mistakes import Mistakes
from lit_rlhf.config.reading import read_file, read_value
from lit_rlhf.config.versions import VERSION


@pytest.fixture
def read(tmp_path, monkeypatch):
    """The mapping of a text and the mistakes in it."""
    monkeypatch.chdir(tmp_path)

    def of(text):
        mistakes = Mistakes()
        Path("c.yaml").write_text(text)
        node = read_file(Path("c.yaml"), mistakes)
        return node and node.plain(), mistakes.lines

    return of


@pytest.mark.parametrize("text, value", [
    ("1e-3", 0.001), ("1E5", 1e5), ("-2.5e+3", -2500.0), ("1_000", 1000), ("0x10", 16), (".5", 0.5), (".inf", math.inf),
    ("007", "007"),
    ("1:30", "1:30"), ("2026-01-01", "2026-01-01"), ("true", True), ("null", None), ("e3", "e3"), ("1e", "1e"),
    ("1.2.3", "1.2.3"),
    ("a: b: c", "a: b: c"), ("*.jsonl", "*.jsonl"), ("hub/name#test", "hub/name#test"), ("[1, a]", [1, "a"]),
    ("{a: 1e-3}", {"a": 0.001}),
])
def test_values_of_the_command_line(text, value):
    mistakes = Mistakes()
    assert read_value(text, "--x", mistakes, VERSION).plain() == value and not mistakes.lines


def test_brackets_that_do_not_close_are_a_mistake():
    mistakes = Mistakes()
    read_value("[1", "--x=[1", mistakes, VERSION)
    assert len(mistakes.lines) == 1 and mistakes.lines[0].startswith("--x=[1: ")


def test_anchors_and_merge_keys(read):
    tree, lines = read("a: &a {x: 1, y: 1}\nb: {<<: *a, y: 2}\nc: *a\n")
    assert tree == {"a": {"x": 1, "y": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 1}} and not lines


@pytest.mark.parametrize("text, starts", [
    ("", ["c.yaml: is empty"]),
    ("# only this\n", ["c.yaml: is empty"]),
    ("- a\n", ["c.yaml: is a list"]),
    ("word\n", ["c.yaml: is a str"]),
    ("a: 1\nb: [1\nc: 2\n", ["c.yaml:3:2: "]),
    ("\ta: 1\n", ["c.yaml:1:1: "]),
    ("a: *b\n", ["c.yaml:1:4: "]),
    ("a: &a {b: *a}\n", ["c.yaml:1:4: "]),
    ("a: !!python/object:os.system {}\n", ["c.yaml:1:4: "]),
    ("a: !mine 3\n", ["c.yaml:1:4: "]),
    ("a: 1\n---\nb: 1\n", ["c.yaml:2:1: "]),
    ("a: 1\na: 2\nb:\n  c: 1\n  c: 2\n", [
        "c.yaml:2: a: a is there already (line 1)", "c.yaml:5: b.c: c is there already (line 4)",
    ]),
    ("version: 2\n", ["c.yaml:1: version: is 2"]),
    ("version: new\n", ["c.yaml:1: version: 'new' is no version"]),
    ("version: [1]\n", ["c.yaml:1: version: "]),
    ("version: -1\n", ["c.yaml:1: version: '-1' is no version"]),
])
def test_mistakes_of_a_file_are_told_by_line(read, text, starts):
    _, lines = read(text)
    assert len(lines) == len(starts) and all(line.startswith(start) for line, start in zip(lines, starts, strict=True))


def test_bytes_and_folders_are_no_files(read, tmp_path):
    mistakes = Mistakes()
    Path("b.yaml").write_bytes(b"\xff\xfe\x00")
    assert read_file(Path("b.yaml"), mistakes) is None and read_file(tmp_path, mistakes) is None
    assert [line.partition(":")[0] for line in mistakes.lines] == ["b.yaml", "."]


def test_every_node_has_the_version_of_its_file(read):
    mistakes = Mistakes()
    Path("old.yaml").write_text("a: {b: [1]}\nversion: 0\n")
    node = read_file(Path("old.yaml"), mistakes)
    assert not mistakes.lines and node.child("a").child("b").child("0").version == 0
    Path("new.yaml").write_text("a: 1\n")
    assert read_file(Path("new.yaml"), mistakes).child("a").version == VERSION
