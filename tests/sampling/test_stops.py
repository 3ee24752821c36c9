"""What ends a completion, and what a completion says."""

import functools

import pytest
import torch
from sampling.given import completions, made, prompts
from tokens import byte_tokenizer, ids

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.errors import InputError
from lit_rlhf.sampling.loop import Tails
from lit_rlhf.sampling.native import NativeSampler
from lit_rlhf.sampling.stops import StopSet, completion_text

MOST = 24


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """Bytes, three words, an EOS and a chat terminator that the generation settings know, and an unused special token."""
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer("END", "ENDING", " so", specials=("<|im_end|>", "<|other|>")).save_pretrained(folder)
    found = made("llama", seed=3, tokenizer=str(folder), vocab_size=266, eos_token_id=None)
    found.stop_at([found.tokenizer.convert_tokens_to_ids("<|im_end|>")])
    return found


def of(policy, *names):
    return tuple(sorted(policy.tokenizer.convert_tokens_to_ids(name) for name in names))


def test_tokens_of_tokenizer_and_generation_settings_and_strings(policy):
    found = StopSet.of(policy, ["END", "<|other|>", "\n\n"])
    assert found.ids == of(policy, "<eos>", "<|im_end|>", "<|other|>") and found.strings == ("END", "\n\n")
    tokens = [f"{policy.tokenizer.convert_ids_to_tokens(one)} ({one})" for one in found.ids]
    assert str(found) == ", ".join([*tokens, "'END'", repr("\n\n")]) and "<|im_end|> (" in str(found)
    assert str(StopSet()) == "nothing"


@pytest.mark.parametrize(
    ("text", "pieces"),
    [("say END", None), ("say E", "ND"), ("so", " so END"), ("é END", None), ("xx ENDING", None)],
)
def test_a_string_is_found_at_the_token_that_completes_it(policy, text, pieces):
    """Wherever tokens begin and end, and at no token before."""
    stop = StopSet.of(policy, ["END"])
    written = [token for part in ("x" * 40, text, pieces or "") for token in ids(policy.tokenizer, part)]
    tails = Tails(stop, 1)
    found = [bool(tails.ended(torch.tensor([token]))) for token in written]
    completed = next(n for n in range(1, len(written) + 1) if "END" in policy.tokenizer.decode(written[:n]))
    assert found.index(True) == completed - 1 and all(len(tail) <= stop.window for tail in tails._ids)


def test_rows_that_go_on_keep_their_tails(policy):
    tails = Tails(StopSet.of(policy, ["abc"]), 3)
    for letters in ("xaa", "xba"):
        assert not tails.ended(torch.tensor([ids(policy.tokenizer, letter)[0] for letter in letters])).any()
    tails.select(torch.tensor([2, 1]))
    assert tails.ended(torch.tensor(ids(policy.tokenizer, "bc"))).tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "end", "said"),
    [
        ("good", "<eos>", "good"), ("good", "<|im_end|>", "good"), ("good", "", "good"), ("goodEND", "", "good"),
        ("good ENDING it", "", "good "), (" good\n", "<eos>", " good\n"), ("a<|other|>b", "<eos>", "ab"), ("", "<eos>", ""),
    ],
)  # fmt: skip
def test_what_a_completion_says(policy, text, end, said):
    stop = StopSet.of(policy, ["END"])
    written = policy.tokenizer.encode(text + end, add_special_tokens=False)
    assert completion_text(policy.tokenizer, written, stop) == stop.text(written) == said


@pytest.mark.parametrize(
    ("string", "message"), [("", "an empty string"), ("\ud800", "the tokenizer cannot write")], ids=["empty", "surrogate"]
)
def test_a_string_that_cannot_be_written_is_refused_by_key(policy, string, message):
    with pytest.raises(InputError, match=rf"^model\.sampler\.stop.*{message}"):
        NativeSampler(stop=[string]).check(policy)


def test_a_word_that_a_tokenizer_does_not_know_is_refused_before_any_weight():
    reviews = LanguageModel("lit_rlhf/reviews")
    NativeSampler(stop=["good", "very good"]).check(reviews)
    for string in ("brilliant", "good !", "goo"):
        with pytest.raises(InputError, match=r"^model\.sampler\.stop: the tokenizer cannot write '" + string):
            NativeSampler(stop=[string]).check(reviews)
    assert reviews.net is None
    with pytest.raises(InputError, match=r"model\.sampler\.stop: 'x' .* no tokenizer"):
        NativeSampler(stop=["x"]).check(LanguageModel(config={"model_type": "llama"}))


def test_completions_end_where_a_string_is_written(policy):
    given, plain = prompts(3, 5, 2, vocabulary=250), NativeSampler(MOST)
    usual = completions(plain.sample(policy, given, 6, 0))
    decode = functools.partial(policy.tokenizer.decode, skip_special_tokens=True)
    strings = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    samples = NativeSampler(MOST, stop=strings).sample(policy, given, 6, 0)
    stop, ended = StopSet.of(policy, strings), 0
    for before, after, finished in zip(usual, completions(samples), samples.finished.tolist(), strict=True):
        places = [n for n in range(1, len(before) + 1) if any(letter in decode(before[:n]) for letter in strings)]
        assert after == before[: places[0] if places else None]
        assert finished == (bool(places) or before[-1] in stop.ids) and not set(stop.text(after)) & set(strings)
        ended += bool(places)
    assert ended > 3
