"""Rewards of right answers."""

import pytest
from rewards.given import response

from lit_rlhf.errors import InputError
from lit_rlhf.rewards.maths import MathAnswer

SOLUTION = "She has 48/2 = <<48/2=24>>24 left.\nTogether 48+24 = <<48+24=72>>72.\n#### 72"


def test_right_and_wrong_answers_and_none():
    given = ("#### 72", "It is 72 dollars.", "#### 71", "no idea", "72, no, 71")
    found = MathAnswer()([response(text, answer=SOLUTION) for text in given])
    assert found.total.tolist() == [1, 1, 0, 0, 0]
    assert {part.name: part.values.tolist() for part in found.parts} == {"answered": [1, 1, 1, 0, 1]}
    marked = MathAnswer(last_number=False)([response(text, answer="72") for text in given])
    assert marked.total.tolist() == [1, 0, 0, 0, 0]
    assert MathAnswer.verifiable


def test_a_tolerance():
    given = [response("33.3", answer="100/3")]
    assert MathAnswer()(given).total.tolist() == [0] and MathAnswer(tolerance=0.01)(given).total.tolist() == [1]
    with pytest.raises(InputError, match="MathAnswer.tolerance is 1"):
        MathAnswer(tolerance=1)


def test_a_row_without_an_answer_is_named():
    with pytest.raises(InputError, match="rows.jsonl:3 has no answer; give the data a column answer"):
        MathAnswer()([response("1", row="rows.jsonl:3")])
