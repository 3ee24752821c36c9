"""Final answers, however they are written."""

from fractions import Fraction

import pytest

from lit_rlhf.rewards.answers import Answer, final_answer, stated_answer

WRITTEN = {
    "#### 42": 42,
    "6 * 7 = 42\n#### 42": 42,
    "####42": 42,
    "#### 42\n": 42,
    "#### 42.": 42,
    "#### -42": -42,
    "#### 42 apples": 42,
    "#### $42": 42,
    "#### 1,234": 1234,
    "#### 1,234,567.5": Fraction(2469135, 2),
    "#### 41\nNo.\n#### 42": 42,
    "So it is \\boxed{42}.": 42,
    "$\\boxed{42}$": 42,
    "\\boxed{ 42 }": 42,
    "\\boxed 42": 42,
    "\\fbox{42}": 42,
    "\\boxed{\\boxed{42}}": 42,
    "\\boxed{x = 42}": 42,
    "\\boxed{42 \\text{ apples}}": 42,
    "\\boxed{42\\%}": 42,
    "\\boxed{\\$42}": 42,
    "\\boxed{\\text{42}}": 42,
    "\\boxed{1{,}234}": 1234,
    "\\boxed{1\\,234}": 1234,
    "\\boxed{\\frac{3}{4}}": Fraction(3, 4),
    "\\boxed{\\dfrac{3}{4}}": Fraction(3, 4),
    "\\boxed{\\frac34}": Fraction(3, 4),
    "\\boxed{-\\frac{3}{4}}": Fraction(-3, 4),
    "\\boxed{1\\frac{1}{2}}": Fraction(3, 2),
    "\\boxed{42 \\text{ cm}^2}": 42,
    "\\boxed{42\\,\\mathrm{cm^{2}}}": 42,
    "\\boxed{2 \\times 10^{3}}": 2000,
    "\\[ \\boxed{42} \\]": 42,
    "The answer is 42.": 42,
    "The answer is 42": 42,
    "the answer is: 42": 42,
    "The final answer is **42**.": 42,
    "**Answer:** 42": 42,
    "Answer: 42 dollars": 42,
    "Answer:\n42": 42,
    "ANSWER: 42": 42,
    "The answer is $1,234.50.": Fraction(2469, 2),
    "The answer is -$5.": -5,
    "The answer is $-5.": -5,
    "The answer is −5.": -5,
    "The answer is \\(42\\).": 42,
    "The answer is $42$.": 42,
    "The answer is 3/4 of a cup.": Fraction(3, 4),
    "The answer is 1 1/2 cups.": Fraction(3, 2),
    "The answer is 0.5": Fraction(1, 2),
    "The answer is .5": Fraction(1, 2),
    "The answer is 1e3": 1000,
    "The answer is 1.5E-3": Fraction(3, 2000),
    "The answer is 2 x 10^3.": 2000,
    "The answer is 42 apples out of 50.": 42,
    "The answer is 40 + 2 = 42 apples.": 42,
    "The answer is 42. There were 50 apples, and 8 = 50 - 42.": 42,
    "The answer to the second question is 42.": 42,
    "The answer equals 42": 42,
    "My answer = 42": 42,
    "<answer>42</answer>": 42,
    "<think>The answer is 41.</think><answer> 42 </answer>": 42,
    "<think>#### 41</think>It is 42": 42,
    "The answer is 41. Wait: \\boxed{42}": 42,
    "\\boxed{41} is wrong; the answer is 42.": 42,
    "\\boxed{42}. The answer is above.": None,
    "She sold 40 and then 2, so 42 in all.": 42,
    "It costs €42.": 42,
    "42": 42,
    "There are 5-10 of them": 10,
    "about 50%": 50,
    "I do not know.": None,
    "": None,
    "<think>42": None,
    "The answer is 5/0.": None,
    "#### 1e999999999": None,
    "\\boxed{42": 42,
}


@pytest.mark.parametrize("text", WRITTEN)
def test_the_number_of_a_final_answer(text):
    found = final_answer(text)
    assert (None if found is None else found.value) == WRITTEN[text]


def test_the_last_number_is_an_answer_only_where_it_is_asked_for():
    assert final_answer("It is 42", last_number=False) is None
    assert final_answer("It is 42").value == 42


STATED = {
    "72": 72,
    "1,234": 1234,
    "$5": 5,
    "\\frac{1}{2}": Fraction(1, 2),
    "-3": -3,
    "0.25": Fraction(1, 4),
    "60%": 60,
    "5 apples": 5,
    "so \\boxed{7}": 7,
    "She sold 48/2 = <<48/2=24>>24 clips in May.\nTogether 48+24 = <<48+24=72>>72.\n#### 72": 72,
    "(3, 4)": None,
    "north": None,
}


@pytest.mark.parametrize("gold", STATED)
def test_the_answer_that_data_state(gold):
    assert stated_answer(gold).value == STATED[gold]


SAME = [
    ("the answer is 50%", "50", True),
    ("the answer is 50%", "0.5", True),
    ("the answer is 0.5", "50%", True),
    ("the answer is 50%", "50%", True),
    ("the answer is 0.5%", "50%", False),
    ("#### 42.000", "42", True),
    ("#### 42.001", "42", False),
    ("#### 2/4", "\\frac{1}{2}", True),
    ("#### 0", "0", True),
    ("#### 0.333333333333333333333", "1/3", False),
    ("#### " + "9" * 5000, "9", False),
    ("\\boxed{(3,4)}", "(3, 4)", True),
    ("\\boxed{(3,5)}", "(3, 4)", False),
    ("The answer is (B).", "B", True),
    ("The answer is North.", "north", True),
    ("The answer is x^2 + 1", "x^2+1", True),
    ("#### 3", "north", False),
    ("The answer is north", "3", False),
]


@pytest.mark.parametrize(("text", "gold", "same"), SAME)
def test_answers_that_agree(text, gold, same):
    assert final_answer(text).agrees(stated_answer(gold)) is same


def test_a_tolerance_is_relative():
    third = Answer("", Fraction(1, 3))
    assert Answer("", Fraction(333, 1000)).agrees(third, tolerance=0.001)
    assert not Answer("", Fraction(332, 1000)).agrees(third, tolerance=0.001)


def test_every_way_to_write_a_number_agrees_with_it():
    for number in (0, 7, 1234, -56):
        for form in ("#### {:,}", "\\boxed{{{}}}", "The answer is ${}.", "Answer: {}.00", "It is {} apples"):
            assert final_answer(form.format(number)).agrees(stated_answer(str(number))), form.format(number)


@pytest.mark.parametrize("piece", ["9", "1,", "1 ", "\\boxed{", "answer ", "-", "<answer>", "1/", "\\frac"])
def test_long_nonsense_ends(piece):
    """Quadratic time would take hours."""
    final_answer(piece * (400_000 // len(piece)))
