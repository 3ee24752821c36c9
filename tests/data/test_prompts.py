"""`Files` for an algorithm that samples its completions: prompts with their records, within what their models can read."""

import datetime
import json
from types import SimpleNamespace

import pytest
from tokens import CHATML, byte_tokenizer

from lit_rlhf.data.modules import Files
from lit_rlhf.data.sources import tables
from lit_rlhf.errors import InputError

USER, REPLY = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
ROWS = {
    "preference": {"prompt": "2 + 2?", "chosen": " 4", "rejected": " 5"},
    "transcript": {"chosen": "2 + 2?\n\nAssistant: 4", "rejected": "2 + 2?\n\nAssistant: 5"},
    "scored": {"prompt": "2 + 2?", "responses": [{"text": " 4", "reward": 1.0}, {"text": " 5", "reward": 0.0}]},
    "unpaired": {"prompt": "2 + 2?", "completion": " 5", "label": False},
    "completion": {"prompt": "2 + 2?", "completion": " 4"},
    "prompts": {"prompt": "2 + 2?", "answer": 4},
    "messages": {"messages": [USER, REPLY, {"role": "user", "content": "+ 1?"}, {"role": "assistant", "content": "5"}]},
}


@pytest.fixture
def build(tmp_path):
    def made(rows, new=0, context=None, tokenizer=None, **arguments):
        path = tmp_path / "train.jsonl"
        if rows is not None:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        data = Files(**({"train": str(path), "cache_dir": str(tmp_path / "cache"), "batch_size": 4} | arguments))
        needs = frozenset({"prompt", "reward"})
        tokenizer = tokenizer or byte_tokenizer()
        data.attach(SimpleNamespace(needs=needs, tokenizer=tokenizer, max_new_tokens=new, context=context))
        data.setup("fit")
        return data

    return made


def text(data, group):
    return data.tokenizer.decode(group.prompt_ids)


@pytest.mark.parametrize("layout", ROWS)
def test_every_format_but_text_gives_its_prompts(build, layout):
    data = build([ROWS[layout]])
    ((prompts,),) = data.train_dataloader()
    expected = {"transcript": "2 + 2?\n\nAssistant:", "messages": "User: 2 + 2?\n\nAssistant: 4<eos>\n\nUser: + 1?\n\nAssistant:"}
    assert data.tokenizer.decode(prompts.prompt_ids) == expected.get(layout, "2 + 2?")
    (record,) = prompts.records
    assert record.answer == ("4" if layout == "prompts" else None) and record.row == "train.jsonl:1"
    assert record.prompt == ((USER, REPLY, ROWS["messages"]["messages"][2]) if layout == "messages" else expected.get(layout, "2 + 2?"))


def test_gsm8k_needs_one_column_mapped_and_keeps_the_others(build):
    rows = [{"question": "2 + 2?", "answer": "Two and two.\n#### 4", "level": {"steps": [1, 2]}, "id": 7}]
    with pytest.raises(InputError, match=r"perhaps \{prompt: question\}"):
        build(rows)
    data = build(rows, columns={"prompt": "question"}, as_messages=True)
    (group,) = data.groups("train")
    assert text(data, group) == "User: 2 + 2?\n\nAssistant:"
    assert (group.record.prompt, group.record.answer) == ((USER,), "Two and two.\n#### 4")
    assert group.record.extra == {"level": {"steps": [1, 2]}, "id": 7}
    report = data.report.text()
    assert "with an answer: 100.0% of the prompts" in report and "answer: Two and two." in report
    assert "completion tokens" not in report and "trained" not in report


def test_tokens_are_those_before_the_assistant_s_words_in_training(build):
    chat = byte_tokenizer(bos="<bos>", specials=("<|im_start|>", "<|im_end|>"), template=CHATML)
    for row in (ROWS["messages"], ROWS["completion"], {"messages": [USER, REPLY]}):
        asked = build([row], tokenizer=chat)
        trained = Files(asked.sources["train"][0], turns="last", cache_dir=asked.cache_dir)
        trained.attach(SimpleNamespace(needs=frozenset(), tokenizer=chat))
        trained.setup("fit")
        assert asked.groups("train")[0].prompt_ids.tolist() == trained.groups("train")[0].prompt_ids.tolist()


def test_rows_are_not_merged_unless_they_are_responses_to_one_prompt(build):
    assert len(build([ROWS["preference"]] * 3).groups("train")) == 3
    flat = [{"prompt": "2 + 2?", "completion": f" {k}", "reward": k} for k in range(3)]
    assert [group.row for group in build(flat).groups("train")] == ["train.jsonl:1,2,3"]


def test_a_record_is_stored_and_read_without_a_change(build):
    row = {"messages": [USER, REPLY], "answer": 4.5, "note": None, "tags": ["é", {"a": True}]}
    data = build([row])
    preparation, _, _ = data.recipe.of(data.sources["train"][0], tables(data.sources["train"][0], data.cache_dir))
    (outcome,) = preparation([("train.jsonl:1", row)])
    for found in (data.groups("train")[0], build([row]).groups("train")[0]):
        assert found.record == outcome.group.record
        assert found.record.answer == "4.5" and found.record.extra == {"note": None, "tags": ["é", {"a": True}]}


def test_a_column_that_json_has_no_word_for_is_text(build, tmp_path):
    from datasets import Dataset

    Dataset.from_dict({"prompt": ["Q"], "day": [datetime.date(2024, 2, 29)]}).to_parquet(tmp_path / "a.parquet")
    (group,) = build(None, train=str(tmp_path / "a.parquet")).groups("train")
    assert group.record.extra == {"day": "2024-02-29"}


# ---- lengths


LONG = [{"prompt": "a" * n} for n in (3, 9, 5)]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"new": 4, "max_length": 12}, r"train.jsonl:2: prompt and model.sampler.max_new_tokens are 9 \+ 4 tokens, max_length is 12"),
        ({"new": 4, "context": 12}, r"train.jsonl:2: .* 9 \+ 4 tokens, the model's context is 12"),
        ({"new": 4, "context": 12, "max_length": 20}, "the model's context is 12"),
        ({"new": 4, "context": 20, "max_length": 12}, "max_length is 12"),
        ({"max_prompt_length": 8}, "train.jsonl:2: the prompt has 9 tokens, max_prompt_length is 8"),
        ({"context": 8}, r"train.jsonl:2: .* 9 \+ 0 tokens, the model's context is 8"),
    ],
)
def test_a_prompt_that_leaves_no_room_is_refused_by_row_and_key(build, limits, sentence):
    with pytest.raises(InputError, match="1 of 3 rows are too long. Lower model.sampler.max_new_tokens") as error:
        build(LONG, **limits)
    pytest.raises(InputError, build, LONG, **limits).match(sentence)
    assert "truncate_completion_right" not in str(error.value)


def test_long_prompts_are_dropped_or_cut_and_counted(build):
    dropped = build(LONG, new=4, context=12, overflow="drop")
    assert [text(dropped, group) for group in dropped.groups("train")] == ["aaa", "aaaaa"]
    assert dropped.report.splits["train"].dropped == {"too long": 1}
    cut = build(LONG, new=4, context=12, overflow="truncate_prompt_left")
    assert [len(group.prompt_ids) for group in cut.groups("train")] == [3, 8, 5]
    assert cut.report.splits["train"].truncated == 1 and cut.groups("train")[1].record.prompt == "a" * 9


def test_more_new_tokens_are_not_read_from_what_was_stored_for_fewer(build):
    data = build(LONG, new=3, context=12)
    data.attach(SimpleNamespace(needs=data.needs, tokenizer=data.tokenizer, max_new_tokens=4, context=12))
    with pytest.raises(InputError, match=r"9 \+ 4 tokens"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"overflow": "truncate_completion_right"}, "truncate_completion_right cuts completions, and the algorithm reads prompts"),
        ({"new": 16, "context": 16}, "model.sampler.max_new_tokens: 16 tokens leave no room for a prompt, the model's context is 16"),
        ({"new": 16, "max_length": 8}, "model.sampler.max_new_tokens: 16 tokens leave no room for a prompt, max_length is 8"),
    ],
)
def test_what_no_prompt_can_keep_is_refused(build, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        build(LONG, **arguments)


# ---- wrong rows


def test_a_prompt_without_a_token_is_refused_by_row(build):
    with pytest.raises(InputError, match="train.jsonl:2: column prompt: found no token and the tokenizer has no BOS"):
        build([{"prompt": "a"}, {"prompt": "  "}])
    with pytest.raises(InputError, match="train.jsonl:1: column messages: the assistant speaks first"):
        build([{"messages": [REPLY]}])


def test_text_has_no_prompts(build):
    with pytest.raises(InputError, match="the format is text .* reads prompts"):
        build([{"text": "a"}])


def test_one_split_serves_training_on_given_completions_and_on_sampled_ones(build):
    rows = [{"messages": [{"role": "user", "content": f"{n}"}, REPLY, USER, REPLY]} for n in range(40)]
    asked = build(rows, split=0.3)
    trained = Files(asked.sources["train"][0], split=0.3, cache_dir=asked.cache_dir)
    trained.attach(SimpleNamespace(needs=frozenset(), tokenizer=asked.tokenizer))
    trained.setup("fit")
    found = [[group.row for group in data.groups("val")] for data in (asked, trained)]
    assert found[0] == found[1] and len(found[0]) == 12


def test_prompts_are_streamed(build):
    data = build([{"prompt": f"Q{n}", "answer": n, "level": n} for n in range(6)], streaming=True, shuffle_buffer=1)
    (prompts,) = next(iter(data.train_dataloader()))
    assert [(r.prompt, r.answer, r.extra["level"]) for r in prompts.records] == [(f"Q{n}", str(n), n) for n in range(4)]
    assert prompts.index.tolist() == [0, 1, 2, 3]
