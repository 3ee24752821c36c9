"""The geometric mixture, token by token."""

import pytest
import torch
from components.tiny import dense, model
from sampling.given import completions, made, prompts

from lit_rlhf.errors import InputError
from lit_rlhf.sampling.mixture import Mixture
from lit_rlhf.sampling.native import NativeSampler

K, MOST = 3, 10


def test_next_token_laws_are_geometric_means():
    policy, reference = model("llama"), model("gpt2", seed=1)
    samples = NativeSampler(MOST).sample(Mixture(policy, reference, 0.3), prompts(), K, 0)
    with torch.no_grad():
        mixed = 0.7 * dense(policy.net, samples.sequences) + 0.3 * dense(reference.net, samples.sequences)
    values = mixed.log_softmax(-1).gather(1, samples.sequences.completion_ids[:, None])[:, 0]
    torch.testing.assert_close(samples.behaviour, values, atol=1e-5, rtol=0)
    torch.testing.assert_close(samples.policy, values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_its_ends_are_the_two_models(weight):
    models = model("llama"), model("llama", seed=1)
    mixed = NativeSampler(MOST, top_p=0.9).sample(Mixture(*models, weight), prompts(), K, 0)
    alone = NativeSampler(MOST, top_p=0.9).sample(models[int(weight)], prompts(), K, 0)
    assert completions(mixed) == completions(alone) and torch.equal(mixed.behaviour, alone.behaviour)


def test_a_weight_that_is_no_share_and_models_of_other_sizes_are_refused():
    with pytest.raises(InputError, match="Mixture.weight is 1.5"):
        Mixture(model(), model(), 1.5)
    with pytest.raises(InputError, match="has 23 tokens and that of the reference 29"):
        NativeSampler(MOST).sample(Mixture(model(), made("llama", vocab_size=29), 0.5), prompts(), K, 0)
