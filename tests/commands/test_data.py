"""The data report as a command."""

import json
from types import SimpleNamespace

import pytest
from tokens import byte_tokenizer

from lit_rlhf.commands.data import report
from lit_rlhf.data.modules import Files
from lit_rlhf.errors import InputError


def composition(*needs):
    return SimpleNamespace(needs=frozenset(needs), tokenizer=byte_tokenizer())


def test_the_report_says_what_became_of_the_rows_and_shows_one(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "Q:", "chosen": " yes", "rejected": " no"}) + "\n")
    text = report(composition("chosen"), Files(str(path), cache_dir=str(tmp_path / "cache")))
    assert "preference (prompt, chosen, rejected)" in text and "train: 1 rows, 1 kept" in text
    assert "pairs.jsonl:1: Q:\n    chosen: ⟦ yes<eos>⟧\n    rejected: ⟦ no<eos>⟧" in text


def test_a_mistake_is_an_input_error(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"text": "hello"}) + "\n")
    with pytest.raises(InputError, match="the format is text"):
        report(composition("chosen"), Files(str(path), cache_dir=str(tmp_path / "cache")))
