"""Rows of every layout as records."""

import itertools

import pytest

from lit_rlhf.data.formats import FORMATS, NEEDS, detect, to_record
from lit_rlhf.data.records import Completion, Preference, RowError
from lit_rlhf.errors import InputError


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("columns", "format"),
    [
        (["chosen", "rejected"], "preference"),
        (["prompt", "chosen", "rejected", "probability"], "preference"),
        (["prompt", "prompt_id", "chosen", "rejected", "messages", "reward_chosen", "reward_rejected"], "preference"),
        (["prompt", "responses"], "scored"),
        (["prompt", "completion", "reward"], "scored"),
        (["prompt", "completion", "label"], "unpaired"),
        (["prompt", "completion", "label", "reward"], "scored"),
        (["prompt", "completion"], "completion"),
        (["messages", "prompt"], "messages"),
        (["text", "id"], "text"),
        (["prompt", "answer"], "prompts"),
    ],
)
def test_the_format_follows_from_the_columns_in_any_order(columns, format):
    orders = itertools.islice(itertools.permutations(columns), 50)
    assert {detect(order) for order in orders} == {format}


def test_every_format_is_reached_by_its_own_columns():
    for format in FORMATS:
        assert all(detect(needed) == format for needed in NEEDS[format])


def test_unknown_columns_get_a_mapping_that_looks_likely():
    with pytest.raises(InputError) as error:
        detect(["question", "answer"])
    sentence = str(error.value)
    assert (
        "the columns answer, question are no known format; rename them by data.columns, "
        "perhaps {prompt: question, completion: answer}"
        in sentence
    )
    assert all(f"{format}: " in sentence for format in FORMATS)
    with pytest.raises(InputError, match=r"perhaps \{prompt: question, answer: solution\}\."):
        detect(["question", "solution"], prompts=True)


def test_pairs_with_their_prompt():
    record = to_record({"prompt": "p", "chosen": "c", "rejected": "r"}, "preference", "f:1")
    assert (record.prompt, record.row) == ("p", "f:1")
    assert [(c.text, c.label) for c in record.completions] == [("c", 1.0), ("r", 0.0)]
    assert record.preferences == (Preference(0, 1, 1.0, None),)


def test_pairs_with_the_prompt_inside():
    row = {"chosen": "\n\nHuman: a\n\nAssistant: yes", "rejected": "\n\nHuman: a\n\nAssistant: yep"}
    record = to_record(row, "preference", "f:1")
    assert record.prompt == "\n\nHuman: a\n\nAssistant:" and [c.text for c in record.completions] == [" yes", " yep"]


def test_a_prompt_of_text_with_conversations():
    row = {
        "prompt": "a",
        "chosen": [user("a"), assistant("c")],
        "rejected": [user("a"), assistant("r")],
        "messages": [user("a"), assistant("c")],
    }
    record = to_record(row, "preference", "f:1")
    assert record.prompt == (user("a"),) and [c.text for c in record.completions] == [
        (assistant("c"),),
        (assistant("r"),),
    ]


def test_soft_preferences_and_rewards():
    row = {
        "prompt": "p",
        "chosen": "c",
        "rejected": "r",
        "probability": 0.3,
        "reward_chosen": 1,
        "reward_rejected": "2",
        "gap": -1.5,
    }
    record = to_record(row, "preference", "f:1")
    assert record.preferences == (Preference(0, 1, 0.3, -1.5),)
    assert [(c.reward, c.label) for c in record.completions] == [(1.0, 0.0), (2.0, 1.0)]


def test_two_different_prompts_are_a_wrong_row():
    row = {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: x"}
    with pytest.raises(RowError, match=r"two different prompts, apart from character 9 on: 'a\\n\\nAssistant:' and 'b"):
        to_record(row, "preference", "f:1")
    row = {"chosen": [user("a"), assistant("x")], "rejected": [user("b"), assistant("x")]}
    with pytest.raises(RowError, match="two different prompts, apart from message 0 on"):
        to_record(row, "preference", "f:1")


SCORED = [("b", 0.5), ("c", -1.0)]


@pytest.mark.parametrize(
    "row",
    [
        {"responses": [{"text": "b", "reward": 0.5, "generator": "x"}, {"text": "c", "score": -1}]},
        {"responses": ["b", "c"], "reward": [0.5, -1]},
        {"completion": ["b", "c"], "reward": [0.5, "-1"]},
    ],
)
def test_scored_responses_nested_or_in_lists(row):
    record = to_record({"prompt": "a"} | row, "scored", "f:1")
    assert [(c.text, c.reward) for c in record.completions] == SCORED and record.preferences == ()


def test_one_scored_response_of_messages():
    record = to_record({"completion": [user("a"), assistant("b")], "reward": 2}, "scored", "f:1")
    assert record.prompt == (user("a"),) and record.completions == (Completion((assistant("b"),), 2.0),)


@pytest.mark.parametrize(
    ("value", "label"), [(True, 1.0), (False, 0.0), (1, 1.0), ("false", 0.0), ("True", 1.0), (0.0, 0.0)]
)
def test_labels_in_every_spelling(value, label):
    record = to_record({"prompt": "a", "completion": "b", "label": value}, "unpaired", "f:1")
    assert record.completions == (Completion("b", None, label),)


def test_demonstrations():
    assert to_record({"prompt": "a", "completion": "b"}, "completion", "f:1").completions == (Completion("b"),)
    record = to_record({"messages": [user("a"), assistant("b"), user("c"), assistant("d")]}, "messages", "f:1")
    assert record.prompt == (user("a"),) and len(record.completions[0].text) == 3
    record = to_record({"text": "once upon"}, "text", "f:1")
    assert record.prompt is None and record.completions == (Completion("once upon"),)


def test_a_first_turn_of_weight_0_is_part_of_the_prompt():
    messages = [user("a"), assistant("b") | {"weight": 0}, user("c"), assistant("d")]
    assert len(to_record({"messages": messages}, "messages", "f:1").prompt) == 3


def test_prompts_keep_what_a_reward_needs():
    record = to_record({"prompt": "1+1", "answer": 2, "level": "easy"}, "prompts", "f:1")
    assert (record.prompt, record.completions, record.answer, record.extra) == ("1+1", (), "2", {"level": "easy"})


def test_text_becomes_messages_when_asked():
    record = to_record({"prompt": "a", "completion": " b"}, "completion", "f:1", as_messages=True)
    assert record.prompt == (user("a"),) and record.completions[0].text == (assistant("b"),)
    row = {
        "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d",
        "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: e",
    }
    assert to_record(row, "preference", "f:1", as_messages=True).prompt == (user("a"), assistant("b"), user("c"))


@pytest.mark.parametrize(
    ("row", "format", "sentence"),
    [
        (
            {"chosen": "c"},
            "preference",
            "column rejected: missing, expected by the format preference; the row has chosen",
        ),
        ({"prompt": "a", "completion": None}, "completion", "column completion: missing"),
        ({"prompt": 3, "completion": "b"}, "completion", "column prompt: found 3, expected text"),
        (
            {"prompt": "a", "completion": "b", "label": "maybe"},
            "unpaired",
            "column label: found text 'maybe', expected true or false",
        ),
        (
            {"prompt": "a", "completion": "b", "reward": "high"},
            "scored",
            "column reward: found text 'high', expected a number",
        ),
        (
            {"prompt": "a", "completion": "b", "reward": float("nan")},
            "scored",
            "column reward: found nan, expected a finite number",
        ),
        (
            {"prompt": "a", "completion": ["b", "c"], "reward": [1]},
            "scored",
            "column reward: found a list of 1, the first 1, expected a list of 2",
        ),
        ({"prompt": "a", "responses": [{"reward": 1}]}, "scored", r"column responses\[0\].text: missing"),
        (
            {"prompt": "a", "responses": [{"text": "b", "reward": "x"}]},
            "scored",
            r"column responses\[0\].reward: found text 'x'",
        ),
        ({"prompt": "a", "responses": []}, "scored", "no response: the list is empty"),
        ({"prompt": "a", "responses": "b"}, "scored", "column responses: found text 'b', expected a list of objects"),
        (
            {"prompt": "p", "chosen": "c", "rejected": "r", "probability": 1.2},
            "preference",
            "column probability: found 1.2, expected a number from 0 to 1",
        ),
        (
            {"prompt": "a", "completion": "b", "weight": -1},
            "completion",
            "column weight: found -1.0, expected 0 or more",
        ),
        ({"messages": "hello"}, "messages", "column messages: found text 'hello', expected a list of messages"),
        ({"messages": [user("a")]}, "messages", "there is no turn of the assistant"),
        ({"text": 3}, "text", "column text: found 3, expected text"),
    ],
)
def test_a_wrong_row_names_column_found_and_expected(row, format, sentence):
    with pytest.raises(RowError, match=sentence):
        to_record(row, format, "f:1")
