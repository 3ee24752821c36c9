import gzip
import importlib.util
import json
import types
from pathlib import Path

import pytest

from lit_rlhf.data.modules import Files
from tokens import byte_tokenizer

TOOLS = Path(__file__).parents[2] / "tools"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_alpaca_scored = tool("make_alpaca_scored")
LOW, HIGH = 1e-6, 1 - 1e-6


def checkout(folder, **models):
    """results/<model>/<judge>/annotations.json with rows of (instruction, output, preference)."""
    for model, rows in models.items():
        file = folder / "results" / model / "weighted_alpaca_eval_gpt4_turbo" / "annotations.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps([
            {"instruction": instruction, "output_1": "the baseline's", "generator_1": "baseline", "output_2": output,
             "generator_2": model, "preference": preference}
            for instruction, output, preference in rows
        ]))
    return folder


def written(tmp_path, *models):
    out = tmp_path / "out" / "scored.jsonl.gz"
    make_alpaca_scored.main([str(tmp_path), str(out), "--models", *models])
    with gzip.open(out, "rt") as lines:
        return [json.loads(line) for line in lines]


def test_responses_are_joined_on_the_instruction(tmp_path, capsys):
    checkout(tmp_path, weak=[("two", "b", 1.25), ("one", "a", 1.0)], strong=[("one", "A", 2.0), ("two", "B", None), ("three", "C", 1.5)])
    assert written(tmp_path, "weak", "strong") == [
        {"prompt": "two", "responses": [{"generator": "weak", "text": "b", "win_probability": 0.25}]},
        {"prompt": "one", "responses": [
            {"generator": "weak", "text": "a", "win_probability": LOW},
            {"generator": "strong", "text": "A", "win_probability": HIGH},
        ]},
        {"prompt": "three", "responses": [{"generator": "strong", "text": "C", "win_probability": 0.5}]},
    ]
    assert "3 prompts, 4 responses of 2 models, 2 at the clip; 1 rows without a preference left out" in capsys.readouterr().out


def test_a_preference_that_is_no_number_is_left_out(tmp_path):
    checkout(tmp_path, weak=[("one", "a", float("nan")), ("two", "b", 1.5)])
    assert [row["prompt"] for row in written(tmp_path, "weak")] == ["two"]


def test_the_file_is_the_same_bytes_every_time(tmp_path):
    checkout(tmp_path, weak=[("one", "a", 1.5)])
    written(tmp_path, "weak")
    first = (tmp_path / "out" / "scored.jsonl.gz").read_bytes()
    written(tmp_path, "weak")
    assert (tmp_path / "out" / "scored.jsonl.gz").read_bytes() == first
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scored.jsonl.gz"]


def test_the_rows_are_a_format_of_files(tmp_path):
    checkout(tmp_path, weak=[("one", "a", 1.0), ("two", "b", 1.2)], middling=[("one", "c", 1.0), ("two", "d", 1.6)])
    written(tmp_path, "weak", "middling")
    data = Files(
        str(tmp_path / "out" / "scored.jsonl.gz"), columns={"reward": "responses[].win_probability", "completion": "responses[].text"},
        source_clip=(LOW, HIGH), max_length=64, cache_dir=str(tmp_path / "cache"),
    )
    data.attach(types.SimpleNamespace(needs=frozenset({"chosen", "reward_gap"}), tokenizer=byte_tokenizer()))
    data.setup("fit")
    (group,) = data.groups("train")
    assert group.pairs[0].gap == pytest.approx(0.6 - 0.2)
    assert data.report.splits["train"].clipped_pairs == 1


@pytest.mark.parametrize(
    ("rows", "models", "sentence"),
    [
        ([("one", "a", 1.5)], ["strong"], "no such file; the checkout has 1 judged models: weak"),
        ([("one", "a", 2.5)], ["weak"], "weak, row 0: preference 2.5, expected output_2 and a number from 1"),
    ],
)
def test_a_checkout_of_another_kind_is_refused(tmp_path, capsys, rows, models, sentence):
    checkout(tmp_path, weak=rows)
    with pytest.raises(SystemExit) as stopped:
        make_alpaca_scored.main([str(tmp_path), str(tmp_path / "out.jsonl.gz"), "--models", *models])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl.gz").exists()
