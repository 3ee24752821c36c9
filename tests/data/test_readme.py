"""The page of the data formats: its examples are read, its table is what the code says."""

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser
from lightning import LightningDataModule
from tokens import byte_tokenizer

import lit_rlhf.data
from lit_rlhf.data.columns import renamed
from lit_rlhf.data.formats import FORMATS, NEEDS, detect
from lit_rlhf.data.modules import Files
from lit_rlhf.data.overflow import Limits
from lit_rlhf.data.preparation import Preparation, Reading
from lit_rlhf.data.signals import Rules, signals_of
from lit_rlhf.data.tokenisation import Tokenisation

PAGE = (Path(lit_rlhf.data.__file__).parent / "README.md").read_text(encoding="utf-8")
SIGNALS = ("demonstration", "preference", "gap", "reward", "label", "prompt")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
EXAMPLES = [
    (format, [json.loads(line) for line in block.strip().splitlines()])
    for format, section in SECTIONS.items()
    for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL)
]


def test_every_format_has_an_example():
    assert set(SECTIONS) == set(FORMATS) == {format for format, _ in EXAMPLES}


@pytest.mark.parametrize(("format", "rows"), EXAMPLES, ids=lambda value: value if isinstance(value, str) else "")
def test_an_example_becomes_groups_for_every_loss_that_can_read_it(format, rows):
    rows = [renamed(row, {}) for row in rows]
    assert {detect(row) for row in rows} == {format}
    columns = {name for row in rows for name in row}
    own = {"label"} if format == "scored" else set()
    for signal in signals_of(format, columns) - own:
        preparation = Preparation(Reading(format), signal, Rules(), Tokenisation(byte_tokenizer()), Limits())
        outcomes = preparation([(f"example:{index}", row) for index, row in enumerate(rows)])
        assert all(outcome.fate in ("kept", "left_out") for outcome in outcomes), [
            outcome.reason for outcome in outcomes
        ]
        assert (
            any(outcome.fate == "kept" for outcome in outcomes)
            or [o.reason for o in outcomes] == ["one response, no pair"] * 2
        )


def test_the_table_says_what_each_format_gives():
    lines = [line for line in PAGE.splitlines() if re.match(rf"\| ({'|'.join(FORMATS)}) \|", line)]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert {row[0] for row in table} == set(FORMATS)
    for format, besides, *cells in table:
        own = set(NEEDS[format][-1]) | {name.strip() for name in besides.split(",") if name}
        assert {signal for signal, cell in zip(SIGNALS, cells, strict=True) if cell == "yes"} == signals_of(
            detect(own), own
        ), (format, besides)


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_configurations_build(block):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(LightningDataModule, "data")
    assert isinstance(parser.instantiate(parser.parse_object(yaml.safe_load(block))).data, Files)


def test_every_module_is_on_the_map():
    named = set(re.findall(r"`(\w+)`", PAGE.split("## The map")[1]))
    modules = {path.stem for path in Path(lit_rlhf.data.__file__).parent.glob("*.py")} - {"__init__"}
    assert modules <= named
