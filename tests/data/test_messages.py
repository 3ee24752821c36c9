"""Where a prompt ends: transcripts, conversations, mixed layouts."""

import pytest

from lit_rlhf.data.messages import after_prompt, as_text, conversation, is_trained, split
from lit_rlhf.data.records import RowError


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_a_transcript_is_split_at_its_last_assistant_turn():
    whole = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: bye\n\nAssistant: ciao"
    assert split(whole, "chosen") == ("\n\nHuman: hi\n\nAssistant: hello\n\nHuman: bye\n\nAssistant:", " ciao")


def test_identical_transcripts_and_common_words_do_not_move_the_boundary():
    first = "\n\nHuman: pick\n\nAssistant: I will take tea"
    second = "\n\nHuman: pick\n\nAssistant: I will take coffee"
    prompts = {split(whole, "chosen")[0] for whole in (first, second, first)}
    assert prompts == {"\n\nHuman: pick\n\nAssistant:"}


def test_a_reply_of_white_space_is_empty():
    assert split("\n\nHuman: hi\n\nAssistant: ", "chosen") == ("\n\nHuman: hi\n\nAssistant:", "")


@pytest.mark.parametrize("whole", ["no turns at all", "\n\nHuman: hi\n\nAssistant: ho\n\nHuman: again"])
def test_a_text_that_does_not_end_with_the_assistant_is_wrong(whole):
    with pytest.raises(RowError, match="column chosen: the last turn of .* is not the assistant's"):
        split(whole, "chosen")


def test_messages_are_split_before_the_last():
    whole = (user("a"), assistant("b"), user("c"), assistant("d"))
    assert split(whole, "chosen") == (whole[:3], whole[3:])
    with pytest.raises(RowError, match="the last message is of the user"):
        split(whole[:3], "chosen")
    with pytest.raises(RowError, match="response alone"):
        split(whole[3:], "chosen")


def test_other_words_for_roles_and_contents_are_read():
    found = as_text([{"from": "human", "value": "a"}, {"from": "gpt", "value": "  "}], "messages")
    assert found == (user("a"), assistant(""))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (3, "column prompt: found 3, expected text or a list of messages"),
        ([], "column prompt: found a list of 0"),
        ([{"role": "user", "content": 3}], r"column prompt\[0\].content: found 3, expected text"),
        ([{"role": None, "content": "x"}], r"column prompt\[0\].role: found nothing"),
        ([{"role": "user", "content": None}], r"column prompt\[0\].content: found nothing"),
    ],
)
def test_what_is_neither_text_nor_messages_is_told(value, sentence):
    with pytest.raises(RowError, match=sentence):
        as_text(value, "prompt")


def test_a_call_of_a_tool_has_no_content():
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}
    assert as_text([call], "messages") == (call,)


def test_prompt_and_response_become_one_kind():
    assert after_prompt("p", "r", "chosen") == ("p", "r")
    assert after_prompt((user("p"),), "r", "chosen") == ((user("p"),), (assistant("r"),))
    assert after_prompt("p", (assistant("r"),), "chosen") == ((user("p"),), (assistant("r"),))
    assert after_prompt((user("p"),), (assistant("r"),), "chosen") == ((user("p"),), (assistant("r"),))


def test_a_response_that_repeats_the_prompt_is_cut_there():
    assert after_prompt("p", (user("p"), assistant("r")), "chosen") == ((user("p"),), (assistant("r"),))
    assert after_prompt((user("p"),), (user("p"), assistant("r")), "chosen") == ((user("p"),), (assistant("r"),))


def test_a_response_that_repeats_another_prompt_is_wrong():
    with pytest.raises(RowError, match="the user says 'q', and column prompt is 'p': two different prompts"):
        after_prompt("p", (user("q"), assistant("r")), "chosen")
    with pytest.raises(RowError, match="neither begin with those of column prompt nor with the assistant's response"):
        after_prompt((user("p"),), (user("q"), assistant("r")), "chosen")


def test_a_transcript_becomes_messages():
    assert conversation("\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:") == (
        user("a"),
        assistant("b"),
        user("c"),
    )
    assert conversation("Be kind.\n\nHuman: a") == ({"role": "system", "content": "Be kind."}, user("a"))
    assert conversation("a question") == (user("a question"),)


def test_the_assistant_is_trained_unless_its_weight_is_0():
    assert is_trained(assistant("a")) and is_trained(assistant("a") | {"weight": 0.5})
    assert not is_trained(assistant("a") | {"weight": 0}) and not is_trained(user("a") | {"weight": 1})
