import gzip
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from lit_rlhf.components.language_model import LanguageModel

TOOLS = Path(__file__).parents[2] / "tools"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_start = tool("make_start")


def words(n, seed=0):
    """Texts of n different words, most of them seen more than once."""
    generator = torch.Generator().manual_seed(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = ["".join(letters[i] for i in torch.randint(26, (6,), generator=generator)) for _ in range(n)]
    return " ".join(made * 2)


def made(tmp_path, *options):
    file = tmp_path / "pairs.jsonl.gz"
    with gzip.open(file, "wt") as lines:
        lines.write(json.dumps({"chosen": words(300), "nested": [{"text": words(300, 1)}]}) + "\n\n")
    out = tmp_path / "start"
    make_start.main([str(out), str(file), "--vocabulary", "600", "--width", "64", "--layers", "1", *options])
    return out


def test_the_folder_is_a_start_for_a_language_model(tmp_path, capsys):
    out = made(tmp_path)
    config, tokenizer = AutoConfig.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert config.vocab_size == len(tokenizer) == 600
    assert tokenizer.eos_token_id == config.eos_token_id == 599
    model = LanguageModel(str(out), config={})
    model.build()
    embeddings, attention, feed_forward, norms = 2 * 600 * 64, 4 * 64 * 64, 3 * 64 * 192, 3 * 64
    expected = embeddings + attention + feed_forward + norms
    assert sum(weight.numel() for weight in model.parameters()) == expected
    assert f"{expected:,} parameters" in capsys.readouterr().out
    assert not list(out.glob("*.safetensors"))


def test_any_text_is_written_by_the_tokenizer_and_read_back(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(made(tmp_path))
    for text in ("", " two  blanks\n\nand lines", "ähnlich 日本 🙂", "\x00"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer.eos_token_id not in ids


def test_the_default_has_more_than_ten_million_parameters_and_eight_thousand_tokens():
    config = make_start.configuration(end=16_383, vocabulary=16_384, width=256, layers=2, longest=1024)
    with torch.device("meta"):
        counted = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    assert make_start.parameters(config) == counted > 10_000_000
    assert config.vocab_size > 8_000


def test_every_text_of_every_kind_of_file_is_read(tmp_path):
    content = {"a": "one", "b": [{"c": "two", "d": 3}, "three"], "e": None}
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "a.jsonl").write_text(json.dumps(content) + "\n\n" + json.dumps("four") + "\n")
    (tmp_path / "a.txt").write_text("five\nsix")
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write("seven")
    found = [list(make_start.texts(tmp_path / name)) for name in ("a.json", "a.jsonl", "a.txt", "b.txt.gz")]
    assert found == [["one", "two", "three"], ["one", "two", "three", "four"], ["five\n", "six"], ["seven"]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--vocabulary", "5000"], "fewer than --vocabulary 5000"), (["--width", "100"], "--width 100: expected a multiple of 64")],
)
def test_what_cannot_be_made_is_refused(tmp_path, capsys, options, sentence):
    with pytest.raises(SystemExit) as stopped:
        made(tmp_path, *options)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "start").exists()


def test_a_line_that_is_no_json_is_named(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('"one"\n{oops\n')
    with pytest.raises(SystemExit) as stopped:
        make_start.main([str(tmp_path / "start"), str(tmp_path / "a.jsonl")])
    assert stopped.value.code == 2
    assert "a.jsonl:2: no JSON" in capsys.readouterr().err


def test_a_folder_with_files_is_not_written_over(tmp_path, capsys):
    made(tmp_path)
    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "start").iterdir())
    with pytest.raises(SystemExit) as stopped:
        made(tmp_path)
    assert stopped.value.code == 2 and "name a new folder" in capsys.readouterr().err
    assert before == sorted(path.stat().st_mtime_ns for path in (tmp_path / "start").iterdir())
