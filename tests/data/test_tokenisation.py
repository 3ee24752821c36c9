"""Prompt groups from records: where texts are cut, what is trained, what ends a completion."""

import numpy as np
import pytest
from tokens import CHATML, byte_tokenizer, ids

from lit_rlhf.data.records import Completion, Group, Pair, Preference, Record, RowError
from lit_rlhf.data.tokenisation import Tokenisation, with_ties
from lit_rlhf.errors import InputError


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **rest):
    return {"role": "assistant", "content": text} | rest


def pair(prompt, chosen, rejected):
    return Record(prompt, (Completion(chosen), Completion(rejected)), (Preference(0, 1),), row="here:1")


def demonstration(prompt, completion):
    return Record(prompt, (Completion(completion),), row="here:1")


def trained_text(tokenizer, group, index=0):
    weights = np.ones(len(group.completions[index])) if group.token_weights is None else group.token_weights[index]
    return tokenizer.decode(group.completions[index][weights > 0].tolist())


# ---- the boundary


def test_prompt_and_completion_are_the_tokens_of_the_whole_text():
    tokenizer = byte_tokenizer(" yes", "Q: ")
    (found,) = Tokenisation(tokenizer)([pair("Q: is it?", " yes", " no")])
    for completion, text in zip(found.group.completions, (" yes", " no"), strict=True):
        assert [*found.group.prompt_ids, *completion] == [*ids(tokenizer, "Q: is it?" + text), tokenizer.eos_token_id]
    assert found.straddles == 0 and tokenizer.decode(found.group.prompt_ids) == "Q: is it?"


def test_a_token_that_straddles_the_boundary_goes_to_the_prompt_and_is_counted():
    tokenizer = byte_tokenizer("ab")
    (found,) = Tokenisation(tokenizer)([pair("xa", "by", "bz")])
    assert tokenizer.decode(found.group.prompt_ids) == "xab"
    assert [tokenizer.decode(completion) for completion in found.group.completions] == ["y<eos>", "z<eos>"]
    assert found.straddles == 2


def test_completions_share_one_prompt_where_only_some_straddle():
    tokenizer = byte_tokenizer("ab")
    (found,) = Tokenisation(tokenizer)([pair("xa", "by", "cz")])
    assert tokenizer.decode(found.group.prompt_ids) == "xa" and found.straddles == 1
    assert [tokenizer.decode(completion) for completion in found.group.completions] == ["by<eos>", "cz<eos>"]


def test_the_space_of_a_word_straddles_though_the_tokenizer_leaves_it_out_of_its_offsets():
    tokenizer = byte_tokenizer(" b")
    assert tokenizer("a b", return_offsets_mapping=True)["offset_mapping"][1] == (2, 3)  # not (1, 3)
    (found,) = Tokenisation(tokenizer)([demonstration("a ", "b")])
    assert found.straddles == 1 and tokenizer.decode(found.group.prompt_ids) == "a b"


def test_a_character_of_several_tokens_is_not_cut():
    tokenizer = byte_tokenizer()
    (found,) = Tokenisation(tokenizer)([demonstration("é", "ü🙂")])
    assert (
        tokenizer.decode(found.group.prompt_ids) == "é" and tokenizer.decode(found.group.completions[0]) == "ü🙂<eos>"
    )
    assert found.straddles == 0


# ---- BOS and terminators


def test_bos_is_written_once_whether_or_not_the_text_has_it():
    tokenizer = byte_tokenizer(bos="<s>")
    for prompt in ("hi", "<s>hi"):
        (found,) = Tokenisation(tokenizer)([demonstration(prompt, " you")])
        assert found.group.prompt_ids.tolist() == [tokenizer.bos_token_id, *ids(tokenizer, "hi")]


def test_bos_of_a_chat_template_is_not_doubled():
    tokenizer = byte_tokenizer(bos="<s>", specials=("<|im_start|>", "<|im_end|>"), template="{{ bos_token }}" + CHATML)
    (found,) = Tokenisation(tokenizer)([demonstration((user("hi"),), (assistant("you"),))])
    assert found.group.prompt_ids.tolist().count(tokenizer.bos_token_id) == 1


def test_the_plain_template_writes_bos_where_the_tokenizer_does():
    for bos in (None, "<s>"):
        tokenizer = byte_tokenizer(bos=bos)
        (found,) = Tokenisation(tokenizer)([demonstration((user("hi"),), (assistant("you"),))])
        assert tokenizer.decode(found.group.prompt_ids) == (bos or "") + "User: hi\n\nAssistant:"
        assert tokenizer.decode(found.group.completions[0]) == " you<eos>"


def test_the_terminator_is_trained_though_it_is_also_the_pad_token():
    tokenizer = byte_tokenizer()
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    (found,) = Tokenisation(tokenizer)([pair("a", "b", "c")])
    assert found.group.token_weights is None
    assert [completion[-1] for completion in found.group.completions] == [tokenizer.eos_token_id] * 2


def test_a_terminator_that_the_text_writes_is_not_doubled():
    tokenizer = byte_tokenizer()
    (found,) = Tokenisation(tokenizer)([demonstration("a", "b<eos>")])
    assert found.group.completions[0].tolist() == [*ids(tokenizer, "b"), tokenizer.eos_token_id]


def test_the_stop_set_joins_tokenizer_generation_settings_and_template():
    tokenizer = byte_tokenizer(specials=("<|im_start|>", "<|im_end|>", "<stop>"), template=CHATML)
    eos, end, stop = tokenizer.convert_tokens_to_ids(["<eos>", "<|im_end|>", "<stop>"])
    found = Tokenisation(tokenizer, generation_stops=(stop, eos)).stop_set
    assert set(found.ids) == {eos, end, stop}
    assert f"'<eos>' ({eos}, tokenizer and generation config)" in found.text()
    assert f"'<|im_end|>' ({end}, template)" in found.text() and f"'<stop>' ({stop}, generation config)" in found.text()


def test_a_tokenizer_that_can_end_nothing_is_refused():
    with pytest.raises(InputError, match="no EOS token and its template no terminator"):
        Tokenisation(byte_tokenizer(eos=None))


def test_without_eos_the_template_s_terminator_serves():
    tokenizer = byte_tokenizer(eos=None, specials=("<|im_start|>", "<|im_end|>"), template=CHATML)
    (found,) = Tokenisation(tokenizer)([demonstration("a", "b")])
    assert tokenizer.decode(found.group.completions[0]) == "b<|im_end|>"


def test_a_tokenizer_without_offsets_is_refused():
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="Slow gives no character offsets"):
        Tokenisation(Slow())


def test_the_tokenizer_is_left_as_it_was_and_its_settings_do_not_matter():
    tokenizer = byte_tokenizer()
    (expected,) = Tokenisation(tokenizer)([demonstration("a b c", " d e f")])
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=16)
    tokenizer.padding_side = "left"
    before = tokenizer.backend_tokenizer.to_str()
    (found,) = Tokenisation(tokenizer)([demonstration("a b c", " d e f")])
    assert found.group.completions[0].tolist() == expected.group.completions[0].tolist()
    assert tokenizer.backend_tokenizer.to_str() == before and tokenizer.padding_side == "left"


# ---- empty things


@pytest.mark.parametrize("chat", [False, True])
def test_an_empty_completion_is_its_terminator_alone_and_counted(chat):
    tokenizer = byte_tokenizer(specials=("<|im_start|>", "<|im_end|>"), template=CHATML)
    record = demonstration((user("a"),), (assistant(""),)) if chat else demonstration("a", "")
    (found,) = Tokenisation(tokenizer)([record])
    assert tokenizer.decode(found.group.completions[0]) == ("<|im_end|>" if chat else "<eos>")
    assert found.empties == 1


def test_an_empty_prompt_is_bos_or_a_sentence():
    record = demonstration("", "b")
    (found,) = Tokenisation(byte_tokenizer(bos="<s>"))([record])
    assert len(found.group.prompt_ids) == 1
    (error,) = Tokenisation(byte_tokenizer())([record])
    assert isinstance(error, RowError) and "column prompt: found no token and the tokenizer has no BOS" in str(error)


def test_running_text_is_predicted_from_bos_or_from_its_first_token():
    tokenizer = byte_tokenizer(bos="<s>")
    (found,) = Tokenisation(tokenizer)([demonstration(None, "abc")])
    assert (
        tokenizer.decode(found.group.prompt_ids) == "<s>" and tokenizer.decode(found.group.completions[0]) == "abc<eos>"
    )
    tokenizer = byte_tokenizer()
    (found,) = Tokenisation(tokenizer)([demonstration(None, "abc")])
    assert tokenizer.decode(found.group.prompt_ids) == "a" and tokenizer.decode(found.group.completions[0]) == "bc<eos>"
    (error,) = Tokenisation(tokenizer)([demonstration(None, "")])
    assert "column text: found no token" in str(error)


def test_an_error_stands_in_the_place_of_its_record():
    tokenisation = Tokenisation(byte_tokenizer())
    first, wrong, last = tokenisation([demonstration("a", "b"), demonstration("", "b"), demonstration("c", "d")])
    assert isinstance(wrong, RowError) and first.group.prompt_ids.tolist() != last.group.prompt_ids.tolist()


def test_a_text_that_the_tokenizer_cannot_write_is_an_input_error():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "<eos>": 1}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenisation = Tokenisation(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>"))
    with pytest.raises(InputError, match="the tokenizer cannot write"):
        tokenisation([demonstration("a", " b")])


# ---- what the group carries


def test_rewards_labels_pairs_and_weight_come_along():
    record = Record(
        "a",
        (Completion("b", 0.5, 1.0), Completion("c", -1.0, 0.0)),
        (Preference(0, 1, 0.8, 1.5, 2.0),),
        weight=3.0,
        row="f:7",
    )
    (found,) = Tokenisation(byte_tokenizer())([record])
    group = found.group
    assert (group.rewards, group.labels, group.pairs) == ((0.5, -1.0), (1.0, 0.0), (Pair(0, 1, 0.8, 1.5, 2.0),))
    assert (group.weight, group.row) == (3.0, "f:7")


def test_pairs_of_identical_completions_are_ties():
    a, b = np.array([1, 2]), np.array([3])
    pairs = (Pair(0, 1, 1.0, 2.0), Pair(0, 2, 0.9, 1.0), Pair(1, 0, 1.0, None))
    found, ties = with_ties(Group(np.array([0]), (a, a.copy(), b), pairs=pairs))
    assert ties == 2 and found.pairs == (Pair(0, 1, 0.5, 0.0), Pair(0, 2, 0.9, 1.0), Pair(1, 0, 0.5, None))


# ---- chat: weights


def test_later_user_turns_have_weight_0_and_turns_their_own_weight():
    tokenizer = byte_tokenizer(specials=("<|im_start|>", "<|im_end|>"), template=CHATML)
    messages = (
        user("one"),
        assistant("A"),
        user("two"),
        assistant("B", weight=0.25),
        user("three"),
        assistant("C", weight=0),
    )
    (found,) = Tokenisation(tokenizer)([demonstration(messages[:1], messages[1:])])
    group = found.group
    assert tokenizer.decode(group.prompt_ids) == "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\n"
    assert trained_text(tokenizer, group) == "A<|im_end|>B<|im_end|>"
    weights = dict(
        zip(tokenizer.convert_ids_to_tokens(group.completions[0]), group.token_weights[0].tolist(), strict=True)
    )
    assert (weights["A"], weights["B"], weights["o"]) == (1.0, 0.25, 0.0)
    assert (
        tokenizer.decode(group.completions[0][-2:]) == "B<|im_end|>"
    )  # what follows the last trained turn is left out


def test_pairs_of_messages_share_their_prompt():
    tokenizer = byte_tokenizer(specials=("<|im_start|>", "<|im_end|>"), template=CHATML)
    (found,) = Tokenisation(tokenizer)([pair((user("q"),), (assistant("yes"),), (assistant("no"),))])
    assert [tokenizer.decode(c) for c in found.group.completions] == ["yes<|im_end|>", "no<|im_end|>"]
