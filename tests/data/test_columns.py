"""Renaming and reaching into a user's columns."""

import pytest

from lit_rlhf.data.columns import check_columns, kind, reach, renamed, renamed_columns
from lit_rlhf.data.records import RowError
from lit_rlhf.errors import InputError

ROW = {
    "q": "why",
    "choices": [{"message": {"content": "a"}, "p": 0.2}, {"message": {"content": "b"}, "p": 0.7}],
    "score": 3,
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("q", "why"),
        ("choices[0].message.content", "a"),
        ("choices[-1].p", 0.7),
        ("choices[].message.content", ["a", "b"]),
        ("choices[].p", [0.2, 0.7]),
    ],
)
def test_a_path_reaches_nested_values(path, value):
    assert reach(ROW, path) == value


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("choices[2].p", r"column choices\[2\].p: \[2\] is missing in a list of 2"),
        ("choices[].reward", "reward is missing in an object with keys message, p"),
        ("q[].x", r"\[\] is for lists, found text 'why'"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(path, sentence):
    with pytest.raises(RowError, match=sentence):
        reach(ROW, path)


def test_a_mapped_column_is_no_longer_there_under_its_own_name():
    columns = {"prompt": "q", "completion": "choices[].message.content", "reward": "choices[].p"}
    assert renamed(ROW, columns) == {"prompt": "why", "completion": ["a", "b"], "reward": [0.2, 0.7]}
    assert sorted(renamed_columns(list(ROW), columns)) == ["completion", "prompt", "reward"]


def test_a_column_can_be_hidden_and_common_names_are_known():
    assert renamed({"text": "t", "score": 1}, {"text": None}) == {"reward": 1}
    assert renamed_columns(["text", "score_chosen"], {"text": None}) == ["reward_chosen"]


def test_unknown_names_and_bad_paths_are_refused():
    with pytest.raises(InputError, match=r"data.columns.promt: no format has this column \(did you mean prompt\?\)"):
        check_columns({"promt": "q"})
    with pytest.raises(InputError, match=r"data.columns.prompt: 'a\[b\]' is no path"):
        check_columns({"prompt": "a[b]"})
    with pytest.raises(
        InputError, match=r"there is no column 'quesion' \(did you mean question\?\); the columns are question, answer"
    ):
        renamed_columns(["question", "answer"], {"prompt": "quesion"})


def test_a_value_is_told_in_words():
    assert kind(None) == "nothing" and kind([]) == "a list of 0" and kind([1]) == "a list of 1, the first 1"
    assert kind({"a": 1}) == "an object with keys a" and kind("x" * 99) == f"text {'x' * 37 + '...'!r}"
