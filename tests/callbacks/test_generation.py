"""Completions follow our settings alone, batch or no batch, and move nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lit_rlhf.callbacks.generation import complete, evaluating

STOP = 3
PROMPTS = [np.array([5, 6, 7, 8]), np.array([9]), np.array([10, 11])]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=24, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.6, attention_dropout=0.5,
    )
    return LlamaForCausalLM(config).train()


def greedy(net, prompt, most):
    """The likeliest token, one at a time, without cache or padding."""
    ids = prompt.tolist()
    with torch.no_grad(), evaluating(net):
        for _ in range(most):
            ids.append(int(net(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == STOP:
                break
    return ids[len(prompt) :]


def test_temperature_zero_takes_the_likeliest_token_in_every_row(net):
    rows = complete(net, PROMPTS, [STOP], 9, 0.0, seed=0)
    assert [row.tolist() for row in rows] == [greedy(net, prompt, 9) for prompt in PROMPTS]
    assert net.training


def test_the_models_own_settings_are_not_used(net):
    before = net.generation_config
    plain = complete(net, PROMPTS, [STOP], 9, 0.0, seed=0)
    net.generation_config.repetition_penalty, net.generation_config.eos_token_id = 9.0, 4
    net.generation_config.max_new_tokens = 2
    try:
        again = complete(net, PROMPTS, [STOP], 9, 0.0, seed=0)
    finally:
        assert net.generation_config is before
        before.repetition_penalty, before.eos_token_id, before.max_new_tokens = None, None, None
    assert all(map(torch.equal, plain, again))


def test_sampling_is_seeded_and_leaves_the_random_state_alone(net):
    state = torch.get_rng_state()
    first, same, other = (complete(net, PROMPTS, [STOP], 9, 1.0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, first, same)) and [row.tolist() for row in first] != [row.tolist() for row in other]


def test_sampling_follows_the_policy(net):
    prompt, n = PROMPTS[0], 3000
    rows = complete(net, [prompt] * n, [], 1, 1.0, seed=5)
    with torch.no_grad(), evaluating(net):
        law = net(torch.as_tensor(prompt)[None]).logits[0, -1].double().softmax(-1)
    counts = torch.bincount(torch.cat(rows), minlength=24)
    chi_square = float(((counts - n * law) ** 2 / (n * law)).sum())
    freedom = len(law) - 1
    assert chi_square < freedom + 6 * (2 * freedom) ** 0.5  # six deviations above the mean of chi-square


def test_modes_are_given_back_part_by_part(net):
    net.model.norm.eval()
    with evaluating(net):
        assert not any(part.training for part in net.modules())
    assert net.training and not net.model.norm.training
    net.train()


def test_adapters_generate_too(net):
    import copy

    from peft import LoraConfig, get_peft_model

    adapters = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    wrapped = get_peft_model(copy.deepcopy(net), adapters)
    before = wrapped.generation_config
    rows = complete(wrapped, PROMPTS, [STOP], 9, 0.0, seed=0)
    assert [row.tolist() for row in rows] == [greedy(net, prompt, 9) for prompt in PROMPTS]
    assert wrapped.generation_config is before


def test_a_completion_ends_where_the_model_knows_no_further_position():
    torch.manual_seed(0)
    net = GPT2LMHeadModel(GPT2Config(vocab_size=24, n_positions=8, n_embd=16, n_layer=1, n_head=2)).eval()
    rows = complete(net, PROMPTS, [], 9, 0.0, seed=0)
    assert [len(row) for row in rows] == [4, 4, 4]
