"""Whose completions an opponent's are, and that a run trains on both."""

import pytest
import torch
from algorithms.runs import K, PROMPTS, data, made, run

from lit_rlhf.algorithms.opponents import FromMixture, FromReference
from lit_rlhf.algorithms.pairing import RewardPairs
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reference import AdapterOff, FrozenCopy
from lit_rlhf.errors import InputError
from lit_rlhf.losses.pra import PRA
from lit_rlhf.sampling.native import NativeSampler

SAMPLER = NativeSampler(max_new_tokens=3)


@pytest.fixture(scope="module")
def parts():
    """A policy that has left its reference, and prompts."""
    algorithm = made(reference=FrozenCopy())
    algorithm.configure_model()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in algorithm.actor.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=draw)
    given = data()
    given.attach(algorithm)
    given.setup("fit")
    return algorithm.actor, algorithm.reference, given.item(0)[0]


def logps(actor, reference, samples):
    """[T], [T] by policy and reference, without a cache."""
    with torch.no_grad():
        return actor.token_logps(samples.sequences).values, reference.token_logps(samples.sequences)


def test_the_reference_answers_by_its_own_law(parts):
    actor, reference, prompts = parts
    samples = FromReference(completions=3).sample(SAMPLER, actor, reference, prompts, 1)
    own, its = logps(actor, reference, samples)
    assert samples.sequences.prompt_of.tolist() == [prompt for prompt in range(PROMPTS) for _ in range(3)]
    assert torch.allclose(samples.behaviour, its, atol=1e-5) and float((own - its).abs().max()) > 0.05


@pytest.mark.parametrize(("weight", "whose"), [(0.0, 0), (1.0, 1)])
def test_the_ends_of_a_mixture_are_policy_and_reference(parts, weight, whose):
    actor, reference, prompts = parts
    samples = FromMixture(weight, completions=2).sample(SAMPLER, actor, reference, prompts, 1)
    assert torch.allclose(samples.behaviour, logps(actor, reference, samples)[whose], atol=1e-5)


def test_a_mixture_is_geometric_at_every_token(parts):
    actor, reference, prompts = parts
    samples = FromMixture(0.3, completions=2).sample(SAMPLER, actor, reference, prompts, 1)
    expected = []
    for prompt, ids in zip(
        samples.sequences.prompt_of.tolist(), samples.sequences.completion_ids.split(samples.sequences.completion_lengths.tolist()),
        strict=True,
    ):
        context = torch.cat([prompts.prompt_ids.split(prompts.prompt_lengths.tolist())[prompt], ids])[None]
        with torch.no_grad():
            laws = [model.net(input_ids=context).logits[0, -len(ids) - 1 : -1].log_softmax(-1) for model in (actor.model, reference.model)]
        mixed = (0.7 * laws[0] + 0.3 * laws[1]).log_softmax(-1)
        expected.append(mixed.gather(1, ids[:, None])[:, 0])
    assert torch.allclose(samples.behaviour, torch.cat(expected), atol=1e-5)


def test_a_run_has_the_policys_own_completions_and_the_opponents_beside_them():
    algorithm = made(PRA(0.5), reference=FrozenCopy(), credit=[], opponent=FromReference(), pairs=RewardPairs(between="opponents"))
    seen, update = [], algorithm.update
    algorithm.update = lambda batches, *others: (seen.extend(batches), update(batches, *others))[1]
    run(algorithm, 2)
    for batch in seen:
        opponent = batch.drawn.opponent
        assert opponent.tolist() == ([False] * K + [True]) * PROMPTS
        assert bool((opponent[batch.chosen] != opponent[batch.rejected]).all()) and len(batch.chosen) == K * PROMPTS
    assert algorithm.recorder.flush(torch.device("cpu"))["rollout/first_ratio_error"] < 1e-4


def test_what_cannot_be_an_opponent_is_refused():
    with pytest.raises(InputError, match="model.opponent: FromReference samples from a reference; set model.reference"):
        made(opponent=FromReference())
    with pytest.raises(InputError, match="model.opponent.completions: 0, expected 1 or more"):
        FromReference(0)
    with pytest.raises(InputError, match="model.opponent.weight: 1.5, expected a share between 0 and 1"):
        FromMixture(1.5)
    actor = Actor(LanguageModel("lit_rlhf/reviews", lora=LoRA()))
    actor.build()
    reference = AdapterOff()
    reference.build(actor)
    with pytest.raises(InputError, match="the reference \\(adapter_off\\) has no model of its own"):
        FromMixture().sample(SAMPLER, actor, reference, None, 0)
