"""The exact world of the built-in task, and the model and tokenizer that speak it."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lit_rlhf
from lit_rlhf.data import grammar
from lit_rlhf.data.grammar import EOS, PROMPTS, TOKENS, VALENCE, WORDS

ASSETS = Path(lit_rlhf.__file__).parent / "assets" / "reviews"


def test_sixteen_words_and_eos_are_all_there_is():
    assert len(WORDS) == 16 and len(set(TOKENS)) == 17
    assert len(set(PROMPTS)) >= 8 and all(set(prompt.split()) <= set(WORDS) for prompt in PROMPTS)
    assert len({len(prompt.split()) for prompt in PROMPTS}) > 1


def test_the_enumeration_is_complete():
    responses = grammar.responses()
    assert len(responses) == len(set(responses)) == 1 + 16 + 16**2 + 16**3
    ends = [response for response in responses if response[-1] == EOS]
    assert len(ends) == 1 + 16 + 16**2 and all(EOS not in response[:-1] for response in responses)
    assert all(len(response) == 3 for response in responses if response[-1] != EOS)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_law_sums_to_one_and_reaches_everything(prompt):
    law = np.exp(grammar.log_law(prompt))
    assert law.sum() == pytest.approx(1.0, abs=1e-12) and law.min() > 0


def test_the_law_is_the_product_of_next_words():
    prompt = "the meal was not"
    steps = {word: grammar.next_token(prompt, word) for word in WORDS}
    for words in (("very", "good", EOS), ("fresh", "and", "kind"), (EOS,)):
        chain = itertools.pairwise(("not", *words))
        expected = np.prod([steps[before][TOKENS.index(after)] for before, after in chain])
        assert np.exp(grammar.log_law(prompt)[grammar.responses().index(words)]) == pytest.approx(expected)


@pytest.mark.parametrize(("prompt", "words", "expected"), [
    ("film was", (EOS,), -0.5),
    ("film was", ("great", EOS), VALENCE["great"] + 0.25),
    ("the film was not", ("great", EOS), -VALENCE["great"] + 0.25),
    ("meal was", ("very", "fresh", EOS), 1.5 * 2.0 * VALENCE["fresh"] + 0.25),
    ("staff was", ("not", "slow", EOS), -0.7 * 1.5 * VALENCE["slow"] + 0.25),
    ("room was", ("good", "and", "bad"), VALENCE["good"] + VALENCE["bad"] - 0.25),
    ("room was", ("the", "film", "was"), -0.25),
])
def test_rewards_in_closed_form(prompt, words, expected):
    assert grammar.rewards(prompt)[grammar.responses().index(words)] == pytest.approx(expected)


def test_every_response_as_sequences():
    whole = grammar.every_response(PROMPTS[1])
    assert whole.completion_lengths.tolist() == [len(response) for response in grammar.responses()]
    assert [TOKENS[index] for index in whole.prompt_ids] == PROMPTS[1].split()
    spoken = tuple(TOKENS[index] for response in grammar.responses()[15:275] for index in map(TOKENS.index, response))
    part = grammar.every_response(PROMPTS[1], 15, 275)
    assert tuple(TOKENS[index] for index in part.completion_ids) == spoken and len(part.prompt_of) == 260


def test_the_tokenizer_knows_these_tokens_and_refuses_others():
    tokenizer = AutoTokenizer.from_pretrained(ASSETS)
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == list(TOKENS)
    assert tokenizer.eos_token == tokenizer.pad_token == EOS and tokenizer.bos_token is None
    assert all(tokenizer(prompt)["input_ids"] == grammar.encoded(prompt) for prompt in PROMPTS)
    assert tokenizer.decode(grammar.encoded(PROMPTS[1])) == PROMPTS[1]
    with pytest.raises(Exception, match="UNK"):
        tokenizer("unheard-of")


def test_the_shipped_files_are_small_and_describe_no_chat():
    assert sum(file.stat().st_size for file in ASSETS.iterdir()) < 3_000_000
    assert json.loads((ASSETS / "generation_config.json").read_text())["eos_token_id"] == TOKENS.index(EOS)


def test_the_shipped_model_writes_like_the_grammar():
    net = AutoModelForCausalLM.from_pretrained(ASSETS).eval()
    assert sum(weight.numel() for weight in net.parameters()) < 1_000_000
    words = torch.cartesian_prod(torch.arange(16), torch.arange(16))
    for prompt in PROMPTS[:2]:
        context = torch.tensor(grammar.encoded(prompt)).expand(256, -1)
        with torch.no_grad():
            logps = net(torch.cat([context, words], 1)).logits[:, -3:].double().log_softmax(-1)
        first = logps[0, 0]
        second = logps[::16, 1]
        model = torch.cat([
            first[16:], first[:16] + second[:, 16],
            (first[words[:, 0]] + second[words[:, 0], words[:, 1]] + logps[:, 2, 16]),
            (first[words[:, 0]] + second[words[:, 0], words[:, 1]])[:, None].add(logps[:, 2, :16]).flatten(),
        ])
        law = torch.from_numpy(grammar.log_law(prompt))
        assert float(model.exp().sum()) == pytest.approx(1.0, abs=1e-6)
        assert 0 <= float((law.exp() * (law - model)).sum()) < 1e-3
