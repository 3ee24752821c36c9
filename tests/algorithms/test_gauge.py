"""The gauge against enumeration, for a real transformer on the built-in task."""

import dataclasses
import math

import pytest
import torch

from lit_rlhf.algorithms.gauge import RELIABLE, Aim, aim, gauge_line, measured, obstacle
from lit_rlhf.algorithms.online import OnlineAlgorithm
from lit_rlhf.algorithms.pairing import RewardPairs
from lit_rlhf.callbacks.quickstart import exact
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import FrozenCopy
from lit_rlhf.credit.groups import GroupRelative, LeaveOneOut
from lit_rlhf.credit.kl import KLInReward
from lit_rlhf.data import grammar
from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.losses.base import AgainstBehaviour, Prior
from lit_rlhf.losses.policy import ClippedSurrogate, Reinforce
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA
from lit_rlhf.losses.regularisers import KLPenalty
from lit_rlhf.rewards.reviews import ReviewReward
from lit_rlhf.sampling.native import NativeSampler
from lit_rlhf.types import PromptRecord, Prompts, Rollout, Sequences

K = 256


def composed(loss, credit=(), **options):
    options = {"reference": FrozenCopy(), "group_size": 4} | options
    return OnlineAlgorithm(Actor("lit_rlhf/reviews"), loss, ReviewReward(), credit=credit, **options)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (composed(Reinforce(), [KLInReward(0.3), LeaveOneOut()]), Aim(0.3, False)),
        (composed(RDA(tau=0.2)), Aim(0.2, False)),
        (composed(Prior(RDA(tau=0.2))), Aim(0.2, True)),
        (composed(RDA(tau=0.2), reference=None), Aim(0.2, True)),
        (composed(PRA(tau=0.2), pairs=RewardPairs("sampled", scale=3.0)), Aim(0.2 * 3.0, False)),
        (composed(RDA(tau=0.2), pairs=RewardPairs("hard", scale=3.0)), Aim(0.2, False)),
    ],
    ids=["kl in the reward", "rda", "prior", "no reference", "scaled labels", "gaps"],
)
def test_the_target_is_read_off_the_parts(algorithm, expected):
    assert aim(algorithm) == expected
    assert obstacle(algorithm) == ""


@pytest.mark.parametrize(
    ("algorithm", "why"),
    [
        (composed(ClippedSurrogate(), [GroupRelative()]), "no part has a temperature"),
        (composed(ClippedSurrogate() + 0.1 * KLPenalty("k3"), [GroupRelative()]), "no part has a temperature"),
        (composed(AgainstBehaviour(RA(tau=0.5, partition="mean_reward"))), "moves with every iteration"),
        (composed(PRA(), pairs=RewardPairs("hard")), "no Boltzmann target"),
        (composed(RA(partition="none"), group_size=1), "set model.group_size"),
        (composed(RDA(), sampler=NativeSampler(temperature=0.7)), "not the policy's own law"),
    ],
    ids=["no tau", "k3", "behaviour", "hard", "single", "temperature"],
)
def test_where_there_is_no_gauge_a_sentence_says_why(algorithm, why):
    assert why in obstacle(algorithm)
    assert gauge_line(algorithm) == f"none, because {obstacle(algorithm)}"


def world(model, reference):
    """[X, Y] log pi, log u and rewards of all responses."""
    every = [grammar.every_response(prompt) for prompt in grammar.PROMPTS]

    def of(one):
        return torch.stack([segment_sum(one.token_logps(rows).values.double(), rows.completion_lengths) for rows in every])

    return of(model), of(reference), torch.stack([torch.from_numpy(grammar.rewards(prompt)) for prompt in grammar.PROMPTS])


@pytest.fixture(scope="module")
def moved():
    """The built-in policy with its weights moved a little, and its start."""
    actor, start = Actor("lit_rlhf/reviews"), Actor("lit_rlhf/reviews")
    actor.build()
    start.build()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in actor.model.net.model.layers.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=draw)
    return actor.model, start.model


@pytest.mark.parametrize("tau", [1.0, 2.0, 6.0])
@torch.no_grad()
def test_on_samples_of_a_transformer_it_agrees_with_enumeration(moved, tau):
    """Within three standard errors and the bias of second order, -kappa_3 / 6 with kappa_3 by enumeration."""
    model, start = moved
    policy, base, reward = world(model, start)
    ids = [torch.tensor(grammar.encoded(prompt)) for prompt in grammar.PROMPTS]
    records = tuple(PromptRecord(prompt) for prompt in grammar.PROMPTS)
    lengths = torch.tensor([len(one) for one in ids])
    prompts = Prompts(torch.cat(ids), lengths, records, torch.arange(len(ids)), torch.ones(len(ids)))
    samples = NativeSampler(max_new_tokens=3, seed=1).sample(model, prompts, K, 0)
    sequences = samples.sequences
    completions = sequences.completion_ids.split(sequences.completion_lengths.tolist())
    place = {tuple(row.tolist()): index for index, row in enumerate(map(torch.as_tensor, grammar.response_ids()))}
    which = torch.tensor([place[tuple(row.tolist())] for row in completions])
    rollout = Rollout(
        sequences, samples.behaviour, reward[sequences.prompt_of, which].float(), start.token_logps(sequences).values,
    )
    found = {metric.name: (metric.total / metric.weight).item() for metric in measured(rollout, Aim(tau, False))}

    error = policy - base - reward / tau
    law = policy.exp()
    centred = error - (law * error).sum(-1, keepdim=True)
    fourth, second, third = ((law * centred**power).sum(-1) for power in (4, 2, 3))
    true = exact(policy, base, reward, tau).kl_to_target
    noise = math.sqrt(((fourth - second.square()) / K).sum().item()) / len(grammar.PROMPTS) / 2
    bias = (third.abs() / 6).mean().item()
    assert found["udrra/kl_to_target"] < RELIABLE or found["udrra/unreliable"] > 0
    if found["udrra/kl_to_target"] < RELIABLE:
        assert abs(found["udrra/kl_to_target"] - true) < 3 * noise + bias
        assert found["udrra/kl_to_target_exponential"] < true + 3 * noise
    assert 1 <= found["udrra/effective_samples"] <= K


def test_single_samples_and_other_laws_give_nothing_to_average():
    tokens = torch.zeros(2)
    one = torch.ones(2, dtype=torch.long)
    rollout = Rollout(Sequences(one, one, one, one, torch.arange(2)), tokens, tokens, tokens)
    assert all(metric.weight == 0 for metric in measured(rollout, Aim(1.0, False)))
    twice = dataclasses.replace(rollout.sequences, prompt_of=torch.zeros(2, dtype=torch.long))
    dropped = dataclasses.replace(rollout, sequences=twice, weight=torch.tensor([1.0, 0.0]))
    assert all(metric.weight == 0 for metric in measured(dropped, Aim(1.0, False)))
