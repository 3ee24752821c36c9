"""`generate` with our law: the completions of the native loop, and models that it does not serve."""

from __future__ import annotations

import pytest
import torch
from components.tiny import dense, model
from sampling.given import OPTIONS, acting, completions, kept_sets, made, prompts
from tokens import byte_tokenizer

from lit_rlhf.components.lora import LoRA
from lit_rlhf.errors import InputError
from lit_rlhf.sampling.hf import HFSampler
from lit_rlhf.sampling.native import NativeSampler

K, MOST = 3, 10


@pytest.mark.parametrize("option", OPTIONS)
def test_completions_and_laws_are_those_of_the_native_loop(option):
    policy, state = model("llama"), torch.get_rng_state()
    found, native = (kind(MOST, **OPTIONS[option]).sample(policy, prompts(), K, 2) for kind in (HFSampler, NativeSampler))
    assert completions(found) == completions(native) and torch.equal(found.finished, native.finished)
    for name in ("behaviour", "policy"):
        torch.testing.assert_close(getattr(found, name), getattr(native, name), atol=1e-5, rtol=0)
    assert (found.law is None) == (native.law is None)
    if native.law is not None and native.law.kept is not None:
        assert kept_sets(found) == kept_sets(native)
    assert torch.equal(state, torch.get_rng_state())


def test_a_model_with_a_state_of_its_own():
    policy = made("recurrent_gemma", num_hidden_layers=3)
    samples = HFSampler(MOST, **OPTIONS["everything"]).sample(policy, prompts(), K, 0)
    torch.testing.assert_close(samples.behaviour, acting(policy.net, samples), atol=1e-5, rtol=0)


def test_adapters_and_the_models_own_settings():
    policy = model("llama", lora=LoRA(rank=2))
    before = policy.base.generation_config
    before.repetition_penalty = 9.0
    policy.net.train()
    samples = HFSampler(MOST).sample(policy, prompts(), K, 0)
    assert policy.base.generation_config is before and policy.net.training
    values = dense(policy.net.eval(), samples.sequences).gather(1, samples.sequences.completion_ids[:, None])[:, 0]
    torch.testing.assert_close(samples.behaviour, values.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tokens", [1, 10**9])
def test_what_is_held_at_a_time_changes_nothing(tokens):
    policy = model("gpt2")
    usual = HFSampler(MOST).sample(policy, prompts(), K, 0)
    assert completions(HFSampler(MOST, batch_tokens=tokens).sample(policy, prompts(), K, 0)) == completions(usual)


def test_a_stop_string_ends_a_completion(tmp_path):
    byte_tokenizer().save_pretrained(tmp_path)
    policy = made("llama", tokenizer=str(tmp_path), vocab_size=257)
    given = prompts(vocabulary=200)
    plain = completions(HFSampler(MOST).sample(policy, given, 1, 0))
    row, place = next((row, n) for row, ids in enumerate(plain) for n in range(1, len(ids)) if max(ids[n - 1 : n + 1]) < 94)
    string = policy.tokenizer.decode(plain[row][place - 1 : place + 1])  # the first bytes are printable
    found = [kind(MOST, stop=[string]).sample(policy, given, 1, 0) for kind in (HFSampler, NativeSampler)]
    assert completions(found[0])[row] == plain[row][: place + 1] and found[0].finished[row]
    assert completions(found[0]) == completions(found[1]) and torch.equal(found[0].finished, found[1].finished)


def test_settings_out_of_range_are_refused_by_key():
    with pytest.raises(InputError, match=r"^model\.sampler\.max_new_tokens is 0"):
        HFSampler(0)
    assert HFSampler(5, top_k=3).describe(model()).startswith("HFSampler: temperature 1, top_k 3, max_new_tokens 5, seed 0")
