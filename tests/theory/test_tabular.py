"""Tables behind the interface of a language model."""

import dataclasses

import pytest
import torch

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic, SharedCritic
from lit_rlhf.components.learned import LogPartition
from lit_rlhf.components.reference import EMA, FrozenCopy
from lit_rlhf.components.reward import RewardModel
from lit_rlhf.functional.segment import owner, segment_sum
from lit_rlhf.sampling.processing import Processing
from lit_rlhf.theory.loop import prompts
from lit_rlhf.theory.problem import Problem
from lit_rlhf.theory.sampling import TableReward, TableSampler, multisets
from lit_rlhf.theory.tabular import TableModel, Tree

PROBLEM = Problem.drawn(3)
TREE = PROBLEM.tree
BY = pytest.mark.parametrize("by", ["response", "token"])


def table(by="response"):
    model = TableModel(TREE, PROBLEM.log_base, by)
    model.build()
    return model


def test_a_tree_has_a_state_for_every_prefix_and_every_response():
    tree = Tree([(0,), (1, 0), (1, 1, 0)])
    assert (tree.inner, tree.width, tree.vocabulary) == (3, 6, 2)
    before, after = tree.walked(tree.sequences(torch.arange(3)[None]))
    assert before.tolist() == [0, 0, 1, 0, 1, 2] and after.tolist() == [3, 4, 5]


@pytest.mark.parametrize("responses", [[(0,), (0, 1)], [(0,), (0,)], [()]])
def test_a_response_that_begins_another_is_refused(responses):
    with pytest.raises(ValueError, match="none begins another"):
        Tree(responses)


def test_a_completion_that_leaves_the_tree_is_refused():
    sequences = TREE.sequences(torch.tensor([[1]]))
    strange = dataclasses.replace(sequences, completion_ids=torch.tensor([2, 2]))
    with pytest.raises(ValueError, match="none of the tree's"):
        TREE.walked(strange)


@BY
def test_the_law_is_that_of_the_logits_and_of_its_tokens(by):
    model = table(by)
    torch.testing.assert_close(model.net.law(), PROBLEM.log_base)
    torch.testing.assert_close(model.net.law().exp().sum(), torch.ones((), dtype=torch.float64))
    sequences = PROBLEM.sequences()
    logps = model.token_logps(sequences).values
    torch.testing.assert_close(segment_sum(logps, sequences.completion_lengths), PROBLEM.log_base)


@BY
def test_entropies_of_tokens_add_up_to_that_of_responses(by):
    sequences, law = PROBLEM.sequences(), PROBLEM.log_base.exp()
    entropy = table(by).token_logps(sequences, entropy=True).entropy
    whole = (law[owner(sequences.completion_lengths)] * entropy).sum()
    torch.testing.assert_close(whole, -(law * law.log()).sum())


def test_the_gradient_by_logits_of_responses_is_that_of_a_softmax():
    model = table()
    model.net.law()[2].backward()
    expected = torch.eye(6, dtype=torch.float64)[2] - PROBLEM.log_base.exp()
    torch.testing.assert_close(model.net.logits.grad, expected)


def test_critics_reward_models_and_partitions_become_tables():
    sequences = PROBLEM.sequences()
    critic, shared, reward, learned = Critic(table()), SharedCritic(), RewardModel(table()), LogPartition(table())
    shared.attach(Actor(table()))
    for part in (critic, shared, reward, learned):
        part.build()
    with torch.no_grad():
        for part in (critic, shared, reward, learned):
            part.head.weight.copy_(torch.arange(TREE.width)[None])
    before, after = TREE.walked(sequences)
    torch.testing.assert_close(critic.values(sequences), before.double())
    torch.testing.assert_close(shared.values(sequences), before.double())
    torch.testing.assert_close(reward.score(sequences), after.double())
    torch.testing.assert_close(learned(sequences), torch.zeros(1, dtype=torch.float64))


def test_a_copy_stays_and_an_average_moves():
    actor, frozen, average = Actor(table()), FrozenCopy(), EMA(decay=0.5, every=1)
    for reference in (frozen, average):
        reference.build(actor)
    target = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    actor.model.net.start_at(target)
    for reference in (frozen, average):
        reference.after_update(actor, 1)
    torch.testing.assert_close(frozen.model.net.law(), PROBLEM.log_base)
    torch.testing.assert_close(average.model.net.law(), ((PROBLEM.log_base + target) / 2).log_softmax(-1))


def test_draws_have_the_law_of_the_table():
    count = 40_000
    samples = TableSampler(TREE, Processing()).sample(table(), prompts(torch.ones(count // 4)), 4, draw=0)
    found = torch.bincount(TREE.walked(samples.sequences)[1] - TREE.inner, minlength=6) / count
    law = PROBLEM.log_base.exp()
    assert bool(((found - law).abs() < 5 * (law * (1 - law) / count).sqrt()).all())


@pytest.mark.parametrize("processing", [Processing(temperature=0.7), Processing(temperature=1.3, top_k=2)], ids=str)
def test_the_behaviour_is_what_the_model_says_of_the_sampled_tokens_under_that_law(processing):
    model = table()
    samples = TableSampler(TREE, processing).sample(model, prompts(torch.ones(16)), 2, draw=0)
    again = model.token_logps(samples.sequences, law=samples.law)
    torch.testing.assert_close(samples.behaviour, again.acting.detach())
    torch.testing.assert_close(samples.policy, again.values.detach())
    assert not torch.allclose(samples.behaviour, samples.policy)


def test_multisets_carry_all_probability():
    law = PROBLEM.log_base
    members, orders = multisets(6, 3)
    assert len(members) == 56
    torch.testing.assert_close((orders + law[members].sum(1)).exp().sum(), torch.ones((), dtype=torch.float64))


def test_the_reward_knows_every_response():
    from lit_rlhf.rewards.base import Response

    responses = [Response(None, "", ids, True, 0) for ids in TREE.responses]
    torch.testing.assert_close(TableReward(PROBLEM)(responses).total, PROBLEM.reward)
