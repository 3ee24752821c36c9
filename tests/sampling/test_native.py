"""The loop against recomputed forwards: log-probs, independence of the batch, ends, and what is left alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from components.tiny import VOCABULARY, config, dense, model, spread
from sampling.given import LENGTHS, OPTIONS, acting, completions, kept_sets, made, prompts
from torch.utils._python_dispatch import TorchDispatchMode

from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.errors import InputError
from lit_rlhf.sampling import decoding, loop
from lit_rlhf.sampling.native import NativeSampler

K, MOST = 3, 12
MODELS = {
    "llama": {}, "qwen3": {}, "gpt2": {}, "gemma2": {"sliding_window": 4, "attn_logit_softcapping": 1.0}, "mistral": {},
    "phi": {}, "granite": {}, "bloom": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def built():
    """Models by name, made once."""
    found = {}

    def get(name):
        if name not in found:
            found[name] = made(name, **MODELS[name])
        return found[name]

    return get


def exact(built, name, options):
    """Samples whose log-probs are those of forwards of one sequence at a time."""
    policy = built(name)
    samples = NativeSampler(MOST, **options).sample(policy, prompts(), K, 0)
    plain = dense(policy.net, samples.sequences).gather(1, samples.sequences.completion_ids[:, None])[:, 0]
    torch.testing.assert_close(samples.policy, plain, atol=1e-5, rtol=0)
    return policy, samples


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_log_probs_are_those_of_a_forward_under_every_option(built, name, option):
    policy, samples = exact(built, name, OPTIONS[option])
    expected = samples.policy if option == "greedy" else acting(policy.net, samples)
    torch.testing.assert_close(samples.behaviour, expected, atol=1e-5, rtol=0)
    scored = policy.token_logps(samples.sequences, law=samples.law)
    again = scored.values if scored.acting is None else scored.acting
    torch.testing.assert_close(samples.behaviour, again, atol=1e-5, rtol=0)
    assert (samples.law is None) == (option in ("plain", "greedy")) and not samples.behaviour.requires_grad


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("llama", "gemma2")])
def test_other_architectures(built, name):
    policy, samples = exact(built, name, OPTIONS["everything"])
    torch.testing.assert_close(samples.behaviour, acting(policy.net, samples), atol=1e-5, rtol=0)


def test_a_state_over_all_tokens_takes_prompts_of_one_length_together():
    policy = made("lfm2", num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"], block_multiple_of=8)
    samples = NativeSampler(MOST, top_p=0.9).sample(policy, prompts(), K, 0)
    torch.testing.assert_close(samples.behaviour, acting(policy.net, samples), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_a_completion_does_not_depend_on_what_is_beside_it(built, name):
    policy, sampler = built(name), NativeSampler(MOST, top_p=0.9)
    together = sampler.sample(policy, prompts(), K, 3)
    own = completions(together)
    assert len({tuple(one) for one in own}) > len(LENGTHS)
    for row in range(len(LENGTHS)):
        alone = sampler.sample(policy, prompts().select(torch.tensor([row])), K, 3)
        assert completions(alone) == own[row * K : (row + 1) * K]
    backwards = sampler.sample(policy, prompts().select(torch.arange(len(LENGTHS)).flip(0)), K, 3)
    assert completions(backwards)[:K] == own[-K:]
    fewer = sampler.sample(policy, prompts(), 1, 3)
    assert completions(fewer) == own[::K]


@pytest.mark.parametrize("tokens", [1, 30, 60, 10**9])
def test_what_is_held_at_a_time_changes_nothing(built, tokens):
    policy = built("llama")
    usual = NativeSampler(MOST, top_k=6).sample(policy, prompts(), K, 0)
    found = NativeSampler(MOST, top_k=6, batch_tokens=tokens).sample(policy, prompts(), K, 0)
    assert torch.equal(found.sequences.completion_ids, usual.sequences.completion_ids)
    assert torch.equal(found.finished, usual.finished) and torch.equal(found.law.kept.ids, usual.law.kept.ids)
    torch.testing.assert_close(found.behaviour, usual.behaviour, atol=1e-5, rtol=0)


def test_few_logits_at_a_time_change_nothing(built, monkeypatch):
    usual = NativeSampler(MOST, top_k=6).sample(built("llama"), prompts(), K, 0)
    monkeypatch.setattr(decoding.linear_logps, "CHUNK_ELEMENTS", 2 * VOCABULARY)
    found = NativeSampler(MOST, top_k=6).sample(built("llama"), prompts(), K, 0)
    assert completions(found) == completions(usual) and kept_sets(found) == kept_sets(usual)
    torch.testing.assert_close(found.behaviour, usual.behaviour, atol=1e-5, rtol=0)


def test_seed_and_draw_set_samples_apart(built):
    found = [
        completions(NativeSampler(MOST, seed=seed).sample(built("llama"), prompts(), K, draw))
        for seed, draw in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert found[0] == found[1] and found[0] != found[2] and found[0] != found[3] and found[2] != found[3]


def test_tokens_follow_the_policy(built):
    policy, n = built("llama"), 4000
    samples = NativeSampler(1).sample(policy, prompts(4), n, 0)
    law = dense(policy.net, samples.sequences.select(torch.tensor([0])))[0].detach().double().exp()
    counts = torch.bincount(samples.sequences.completion_ids, minlength=VOCABULARY)
    chi_square = float(((counts - n * law) ** 2 / (n * law)).sum())
    freedom = VOCABULARY - 1
    assert chi_square < freedom + 6 * (2 * freedom) ** 0.5  # six deviations above the mean of chi-square


def test_the_likeliest_tokens(built):
    policy = built("llama")
    samples = NativeSampler(MOST, temperature=0.0, top_p=0.5).sample(policy, prompts(), 1, 0)
    assert torch.equal(dense(policy.net, samples.sequences).argmax(-1), samples.sequences.completion_ids)
    assert torch.equal(samples.behaviour, samples.policy)


def test_completions_end_with_a_stop_token_or_at_the_greatest_length(built):
    samples = NativeSampler(MOST).sample(built("llama"), prompts(), 8, 0)
    assert 0 < samples.finished.sum() < len(samples.finished)
    for ids, finished in zip(completions(samples), samples.finished.tolist(), strict=True):
        assert (ids[-1] == 1) == finished and 1 not in ids[:-1] and (finished or len(ids) == MOST)


def test_finished_rows_leave_the_batch(built, monkeypatch):
    rows, step = [], decoding.Stream.step
    monkeypatch.setattr(decoding.Stream, "step", lambda self, tokens: rows.append(len(tokens)) or step(self, tokens))
    samples = NativeSampler(MOST).sample(built("llama"), prompts(), 8, 0)
    lengths = samples.sequences.completion_lengths
    assert rows == [int((lengths > read).sum()) for read in range(1, int(lengths.max()))]


def test_a_prompt_is_read_once_for_its_group(built, monkeypatch):
    read, forward = [], decoding.Stream._forward
    watched = lambda self, ids, *rest: read.append(ids.shape) or forward(self, ids, *rest)  # noqa: E731
    monkeypatch.setattr(decoding.Stream, "_forward", watched)
    NativeSampler(4).sample(built("llama"), prompts(6, 6), 5, 0)
    assert read[0] == (2, 6) and all(length == 1 for _, length in read[1:])


def test_kept_sets_stay_when_the_policy_moves():
    policy = model("llama", seed=4)
    samples = NativeSampler(MOST, top_p=0.5, temperature=0.9).sample(policy, prompts(), K, 0)
    ids = samples.sequences.completion_ids.tolist()
    assert all(token in kept for token, kept in zip(ids, kept_sets(samples), strict=True))
    spread(policy.net)
    moved = policy.token_logps(samples.sequences, law=samples.law).acting
    assert (moved - samples.behaviour).exp().isfinite().all() and (moved - samples.behaviour).abs().max() > 0.1
    torch.testing.assert_close(moved, acting(policy.net, samples), atol=1e-5, rtol=1e-5)
    again = NativeSampler(MOST, top_p=0.5, temperature=0.9).sample(policy, prompts(), K, 0)
    assert kept_sets(again) != kept_sets(samples)


def test_a_completion_ends_where_the_model_knows_no_further_position():
    policy = made("gpt2", n_positions=8, eos_token_id=None)
    samples = NativeSampler(MOST).sample(policy, prompts(5, 1, 7), 2, 0)
    assert samples.sequences.completion_lengths.tolist() == [3, 3, 7, 7, 1, 1] and not samples.finished.any()


def test_prompts_that_leave_no_room_are_refused_by_row():
    policy = made("gpt2", n_positions=8)
    with pytest.raises(InputError, match=r"^file.jsonl:2: the prompt has 8 tokens and the model knows 8 positions"):
        NativeSampler(MOST).sample(policy, prompts(5, 8), 2, 0)
    empty = dataclasses.replace(prompts(5, 1), prompt_lengths=torch.tensor([6, 0]))
    with pytest.raises(InputError, match=r"^file.jsonl:2: the prompt is empty"):
        NativeSampler(MOST).sample(policy, empty, 2, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"), ({"seed": -1}, "seed is -1"), ({"batch_tokens": 0}, "batch_tokens is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"), ({"temperature": -1.0}, "temperature is -1.0"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_key(options, message):
    with pytest.raises(InputError, match=rf"^model\.sampler\.{message}"):
        NativeSampler(**options)


def test_modes_random_state_and_settings_are_left_alone():
    torch.manual_seed(0)
    policy = LanguageModel(config=config("gpt2", resid_pdrop=0.4), dropout=True)
    policy.build()
    policy.net.transformer.ln_f.eval()
    modes = {name: part.training for name, part in policy.net.named_modules()}
    settings, state = policy.net.generation_config.to_dict(), torch.get_rng_state()
    first, second = (NativeSampler(MOST).sample(policy, prompts(), K, 0) for _ in range(2))
    assert completions(first) == completions(second) and torch.equal(state, torch.get_rng_state())
    assert {name: part.training for name, part in policy.net.named_modules()} == modes and any(modes.values())
    assert policy.net.generation_config.to_dict() == settings


def test_the_models_own_settings_are_not_used(built):
    policy, sampler = built("qwen3"), NativeSampler(MOST)
    plain = completions(sampler.sample(policy, prompts(), K, 0))
    own = policy.net.generation_config
    own.temperature, own.top_k, own.repetition_penalty, own.max_new_tokens = 0.1, 1, 9.0, 2
    try:
        assert completions(sampler.sample(policy, prompts(), K, 0)) == plain
    finally:
        own.temperature = own.top_k = own.repetition_penalty = own.max_new_tokens = None


def test_adapters_are_sampled():
    policy = model("llama", lora=LoRA(rank=2, dropout=0.5))
    samples = NativeSampler(MOST).sample(policy, prompts(), K, 0)
    with torch.no_grad():
        policy.net.eval()
        torch.testing.assert_close(samples.behaviour, policy.token_logps(samples.sequences).values, atol=1e-5, rtol=0)
        with policy.net.disable_adapter():
            without = policy.token_logps(samples.sequences).values
            other = NativeSampler(MOST).sample(policy, prompts(), K, 0)
    assert (without - samples.behaviour).abs().max() > 0.1 and completions(other) != completions(samples)


@pytest.mark.parametrize("cache", [False, True])
def test_the_precision_of_training_and_the_weights_of_now(cache):
    """Autocast may keep casts of weights: after an update in place they would be those of before."""
    policy = model("llama", seed=6)
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=cache):
        policy.token_logps(NativeSampler(2).sample(policy, prompts(), 1, 0).sequences)
        spread(policy.net)
        samples = NativeSampler(MOST, top_k=8).sample(policy, prompts(), K, 0)
        assert torch.is_autocast_cache_enabled() == cache
        scored = policy.token_logps(samples.sequences, law=samples.law)
    scored.acting.sum().backward()
    assert samples.behaviour.dtype == torch.float32 and policy.output_head.weight.grad.any()
    torch.testing.assert_close(samples.behaviour, scored.acting, atol=0.1, rtol=0.05)
    exactly = policy.token_logps(samples.sequences, law=samples.law).acting
    assert 1e-5 < (samples.behaviour - exactly).abs().max() < 0.3


def test_weights_are_cast_once_for_all_tokens(built):
    policy, weight, casts = built("llama"), built("llama").net.model.layers[0].mlp.up_proj.weight, []
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False), Casts(tuple(weight.shape), casts):
        NativeSampler(MOST).sample(policy, prompts(), K, 0)
    assert 0 < len(casts) <= 2 * policy.net.config.num_hidden_layers  # two projections of this shape in a layer


class Casts(TorchDispatchMode):
    """Counts the casts of tensors of a shape."""

    def __init__(self, shape, found):
        super().__init__()
        self.shape, self.found = shape, found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._to_copy.default and tuple(args[0].shape) == self.shape:
            self.found.append(function)
        return function(*args, **(kwargs or {}))


def test_a_repeat_that_does_not_count_is_sampled_all_the_same(built):
    given = dataclasses.replace(prompts(), weight=torch.zeros(len(LENGTHS)))
    found, usual = (NativeSampler(MOST).sample(built("llama"), one, K, 0) for one in (given, prompts()))
    assert completions(found) == completions(usual)


@pytest.mark.parametrize("layers", [2, 3])
def test_a_model_with_a_cache_of_its_own_is_refused(layers):
    """Its recurrence is kept in its modules; the third layer is one of attention, which has a cache."""
    policy = made("recurrent_gemma", num_hidden_layers=layers)
    with pytest.raises(InputError, match="use HFSampler"):
        NativeSampler(MOST).sample(policy, prompts(4), 2, 0)


def test_the_settings_in_effect_are_told(built):
    told = NativeSampler(7, temperature=0.5, top_p=0.9, seed=3).describe(built("llama"))
    assert told == (
        "NativeSampler: temperature 0.5, top_p 0.9, max_new_tokens 7, seed 3, batch_tokens 65536; a completion ends at token (1)"
    )


def test_nothing_of_the_size_of_all_tokens_and_words_is_made(built, monkeypatch):
    """Logits are of the newest tokens alone, and of a prompt's last."""
    sizes, pick = [], loop.pick
    monkeypatch.setattr(loop, "pick", lambda logits, *rest: sizes.append(logits.shape) or pick(logits, *rest))
    samples = NativeSampler(MOST).sample(built("llama"), prompts(), K, 0)
    assert {size[1] for size in sizes} == {VOCABULARY} and max(size[0] for size in sizes) == K * len(LENGTHS)
    assert sum(size[0] for size in sizes) == len(samples.sequences.completion_ids)
