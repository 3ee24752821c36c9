"""pass@1 of completions and of a policy, on rows made up here."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tokens import byte_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

TOOLS = Path(__file__).parents[2] / "tools"
ROWS = [
    {"question": "Ann has 3 pens and buys 4. How many?", "answer": "3 + 4 = <<3+4=7>>7 pens.\n#### 7"},
    {"question": "A car costs $1,200 and a lorry twice that. What do both cost?", "answer": "2 * 1200 = 2400\n#### 3,600"},
    {"question": "It is 5 degrees and falls by 9. How warm is it?", "answer": "5 - 9 = -4\n#### -4"},
]


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gsm8k = tool("gsm8k")


def lines(path, rows):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.writelines((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    return str(path)


@pytest.fixture
def file(tmp_path):
    return lines(tmp_path / "test.jsonl.gz", ROWS)


def test_gold_answers_are_counted(file, capsys):
    gsm8k.main([file, file])
    assert capsys.readouterr().out == f"{file}: 3 rows, gold answer read in 3 (100.00%)\n" * 2


def test_a_gold_answer_that_is_no_number_is_shown_and_ends_in_status_1(tmp_path, capsys):
    path = lines(tmp_path / "odd.jsonl", [*ROWS, {"question": "Why?", "answer": "#### because"}])
    with pytest.raises(SystemExit) as stopped:
        gsm8k.main([path])
    assert stopped.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: 4 rows, gold answer read in 3 (75.00%)", "  not read: odd.jsonl:4: '#### because'",
    ]


def test_completions_are_scored_in_order_or_by_their_question(tmp_path, file, capsys):
    in_order = [{"completion": "So it is 7 pens."}, {"completion": r"\boxed{3600}"}, {"completion": "no idea"}]
    by_question = [{"question": row["question"]} | said for row, said in zip(ROWS, in_order, strict=True)][::-1]
    told = []
    for said in (in_order, by_question):
        gsm8k.main([file, "--completions", lines(tmp_path / "said.jsonl", said)])
        told.append(capsys.readouterr().out.splitlines()[1:])
    error = (2 / 9 / 2) ** 0.5  # of three numbers with variance 1/3, over sqrt(3)
    assert told[0] == told[1] == [
        "  3 questions, 3 completions: 2 right, 66.7% with a final answer",
        f"  pass@1: {2 / 3:.2%}, standard error {error:.2%}",
    ]


def test_several_completions_give_pass_at_k(tmp_path, file, capsys):
    said = [{"completion": ["7", "8"]}, {"completion": ["#### 3600", "3,600"]}, {"completion": ["4", "5"]}]
    gsm8k.main([file, "--completions", lines(tmp_path / "said.jsonl", said)])
    out = capsys.readouterr().out
    assert f"pass@1: {0.5:.2%}" in out and f"pass@2: {2 / 3:.2%}" in out and "6 completions: 3 right" in out


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (["{"], "said.jsonl:1: expected an object with completion"),
        ([{"text": "7"}], "said.jsonl:1: expected an object with completion"),
        ([{"completion": [7]}], r"said.jsonl:1: found [7], expected a text or a list of them"),
        ([{"completion": "7", "question": "Who?"}], "said.jsonl:1: it answers none of the 3 questions"),
        ([{"completion": "7"}] * 4, "said.jsonl:4: it answers none of the 3 questions"),
        ([{"completion": "7"}] * 2, "no completion of test.jsonl.gz:3"),
    ],
)
def test_completions_that_are_wrong_are_named(tmp_path, file, capsys, said, sentence):
    with pytest.raises(SystemExit) as stopped:
        gsm8k.main([file, "--completions", lines(tmp_path / "said.jsonl", said)])
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [([{"question": "Q"}], "bad.jsonl:1: found question, expected question"), (["{"], "bad.jsonl:1: no JSON"), ([" "], "there is no row")],
)
def test_rows_that_are_wrong_are_named(tmp_path, capsys, rows, sentence):
    with pytest.raises(SystemExit) as stopped:
        gsm8k.main([lines(tmp_path / "bad.jsonl", rows)])
    assert stopped.value.code == 2 and sentence in capsys.readouterr().err


@pytest.fixture
def policy(tmp_path):
    """A tiny model that says 7 to whatever it is asked, and stops."""
    tokenizer = byte_tokenizer()
    seven, end = tokenizer.convert_tokens_to_ids("7"), tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=None, eos_token_id=end, pad_token_id=end,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.zero_()[:, 0] = 1.0
        model.model.embed_tokens.weight[seven] = torch.nn.functional.one_hot(torch.tensor(1), 8).float()
        model.lm_head.weight.zero_()[seven, 0] = 9.0
        model.lm_head.weight[end, 1] = 9.0
    model.save_pretrained(tmp_path / "policy")
    tokenizer.save_pretrained(tmp_path / "policy")
    return str(tmp_path / "policy")


@pytest.mark.parametrize("column", ["question", "prompt"])
def test_a_policy_answers_every_question(tmp_path, policy, capsys, column):
    rows = [{column: row["question"], "answer": row["answer"]} for row in ROWS]
    path = lines(tmp_path / "rows.jsonl", rows)
    gsm8k.main([path, "--policy", policy, "--max-new-tokens", "4", "--samples", "2", "--device", "cpu", "--batch-size", "2"])
    out = capsys.readouterr().out
    assert "3 questions, 6 completions: 2 right, 100.0% with a final answer" in out
    assert f"pass@1: {1 / 3:.2%}" in out and "length: 2.0 tokens, 0.0% cut" in out


def test_a_policy_that_cannot_be_read_or_has_no_room_is_refused(tmp_path, file, policy, capsys):
    for options, sentence in (
        (["--policy", str(tmp_path / "nowhere")], "--policy"),
        (["--policy", policy, "--max-new-tokens", "100"], "model.sampler.max_new_tokens"),
    ):
        with pytest.raises(SystemExit) as stopped:
            gsm8k.main([file, *options])
        assert stopped.value.code == 2 and sentence in capsys.readouterr().err
