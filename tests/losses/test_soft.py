"""Soft policy iteration on a tree of 3 words and at most 3 of them, where every response and every state is known."""

import dataclasses
import itertools
import math

import pytest
import torch

from lit_rlhf.components.soft_q import SoftStates
from lit_rlhf.errors import InputError
from lit_rlhf.functional import linear_logps
from lit_rlhf.losses.soft import SoftPolicy, SoftQ, TemperatureLoss
from lit_rlhf.types import Evidence, Rollout, Sequences

V, MOST, END, TAU = 3, 3, 0, 0.4
WORDS = range(1, V)
RESPONSES = [
    *((*words, END) for length in range(MOST) for words in itertools.product(WORDS, repeat=length)),
    *itertools.product(WORDS, repeat=MOST),
]
STATES = sorted({response[:place] for response in RESPONSES for place in range(len(response))})
STATE_OF = torch.tensor([STATES.index(response[:place]) for response in RESPONSES for place in range(len(response))])
LENGTHS = torch.tensor([len(response) for response in RESPONSES])
IDS = torch.tensor([word for response in RESPONSES for word in response])
OWNER = torch.repeat_interleave(LENGTHS)
TOKENS = len(IDS)


class Table:
    """Logits, both critics and their slow copies of every state."""

    def __init__(self, seed=0):
        draw = torch.Generator().manual_seed(seed)

        def drawn(*shape):
            return torch.randn(*shape, len(STATES), V, generator=draw, dtype=torch.float64)

        self.logits, self.q, self.slow = drawn().requires_grad_(), drawn(2).requires_grad_(), drawn(2)

    def states(self):
        return SoftStates(
            V, lambda rows: self.logits[STATE_OF[rows]].log_softmax(-1), lambda rows: self.q[:, STATE_OF[rows]].amin(0),
            lambda rows: self.slow[:, STATE_OF[rows]].amin(0), lambda ids: self.q[:, STATE_OF, ids],
            lambda rows: BASE[STATE_OF[rows]],
        )

    def law(self):
        """[Y] log-probs of the responses."""
        tokens = self.logits.detach().log_softmax(-1)[STATE_OF, IDS]
        return torch.zeros(len(RESPONSES), dtype=torch.float64).index_add(0, OWNER, tokens)


def rollout(**changes):
    draw = torch.Generator().manual_seed(7)
    one = torch.zeros(len(RESPONSES), dtype=torch.long)
    sequences = Sequences(torch.tensor([1]), torch.tensor([1]), IDS, LENGTHS, one)
    reward = torch.randn(len(RESPONSES), generator=draw, dtype=torch.float64)
    made = Rollout(sequences, torch.zeros(TOKENS, dtype=torch.float64), reward, finished=torch.ones_like(reward).bool())
    return dataclasses.replace(made, **changes)


def weighted(batch, weight):
    return dataclasses.replace(batch, sequences=dataclasses.replace(batch.sequences, weight=weight))


BASE = torch.randn(len(STATES), V, generator=torch.Generator().manual_seed(3), dtype=torch.float64).log_softmax(-1)
LOG_BASE = torch.zeros(len(RESPONSES), dtype=torch.float64).index_add(0, OWNER, BASE[STATE_OF, IDS])


def evidence_of(table, posterior=False):
    return Evidence(soft_q=table.states(), reference=BASE[STATE_OF, IDS] if posterior else None)


def target_of(batch, posterior):
    """[Y] log pi^tau."""
    return (batch.reward / TAU + (LOG_BASE if posterior else 0.0)).log_softmax(0)


def total(head, evidence, batch):
    (term,) = head(evidence, batch).terms
    assert term.unit == head.unit == "token"
    return term.total


def iterate(table, evidence, batch, head):
    """Soft policy iteration by a head: the critics' exact minimiser as often as the tree is deep, then pi ~ u e^{Q/tau}."""
    count = torch.zeros(len(STATES), V, dtype=torch.float64)
    count.index_put_((STATE_OF, IDS), torch.tensor(1.0, dtype=torch.float64), accumulate=True)
    assert (count > 0).all()
    for _ in range(MOST):
        (slope,) = torch.autograd.grad(total(head, evidence, batch), table.q)
        with torch.no_grad():
            table.q -= slope / count
        table.slow = table.q.detach().clone()
    with torch.no_grad():
        table.logits.copy_(table.q.amin(0) / TAU + (0.0 if evidence.reference is None else BASE))


@pytest.mark.parametrize("posterior", [False, True])
def test_the_fixed_point_of_soft_policy_iteration_is_the_target(posterior):
    table, batch = Table(), rollout()
    evidence = evidence_of(table, posterior)
    for _ in range(MOST):
        iterate(table, evidence, batch, SoftQ(TAU))
    assert torch.allclose(table.law(), target_of(batch, posterior), atol=1e-9)
    heads = SoftPolicy(TAU) + SoftQ(TAU)
    slopes = torch.autograd.grad(sum(term.total for term in heads(evidence, batch).terms), (table.logits, table.q))
    assert all(slope.abs().max() < 1e-9 for slope in slopes)


@pytest.mark.parametrize("posterior", [False, True])
def test_gradient_steps_on_both_heads_at_once_approach_the_target(posterior):
    table, batch, heads = Table(), rollout(), SoftPolicy(TAU) + SoftQ(TAU)
    evidence, target = evidence_of(table, posterior), target_of(batch, posterior)

    def apart():
        return float((table.law().exp() * (table.law() - target)).sum())

    start, optimizer = apart(), torch.optim.Adam([table.logits, table.q], lr=0.1)
    for _ in range(400):
        optimizer.zero_grad()
        sum(term.total for term in heads(evidence, batch).terms).backward()
        optimizer.step()
        table.slow.lerp_(table.q.detach(), 0.3)
    assert start > 0.1 and apart() < 1e-3


def dense_values(table, q, posterior=False):
    """[states] V by a plain sum."""
    law = table.logits.log_softmax(-1)
    return (law.exp() * (q.amin(0) - TAU * (law - (BASE if posterior else 0.0)))).sum(-1)


@pytest.mark.parametrize("posterior", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, TOKENS])
def test_the_gradient_of_the_policy_is_that_of_the_dense_computation(chunk, posterior, monkeypatch):
    monkeypatch.setattr(linear_logps, "CHUNK_ELEMENTS", chunk * V)
    table, batch = Table(), weighted(rollout(), torch.linspace(0.5, 2, TOKENS, dtype=torch.float64))
    found = total(SoftPolicy(TAU), evidence_of(table, posterior), batch)
    expected = -(batch.token_weight * dense_values(table, table.q.detach(), posterior)[STATE_OF]).sum()
    assert torch.allclose(found, expected)
    slopes = [torch.autograd.grad(one, table.logits)[0] for one in (found, expected)]
    assert torch.allclose(*slopes)


@pytest.mark.parametrize("posterior", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_the_gradient_of_the_critics_by_a_loop(gamma, posterior):
    table = Table()
    received = torch.linspace(-1, 1, TOKENS, dtype=torch.float64)
    batch = rollout(token_reward=received, weight=torch.linspace(0.5, 1.5, len(RESPONSES), dtype=torch.float64))
    evidence, values = evidence_of(table, posterior), dense_values(table, table.slow, posterior).detach()
    expected, t = torch.tensor(0.0).double(), 0
    for response, reward, weight in zip(RESPONSES, batch.reward, batch.weight, strict=True):
        for place in range(len(response)):
            last = place == len(response) - 1
            later = reward if last else gamma * values[STATES.index(response[: place + 1])]
            target = received[t] + later
            expected = expected + weight * (table.q[:, STATE_OF[t], response[place]] - target).square().sum() / 2
            t += 1
    found = total(SoftQ(TAU, gamma), evidence, batch)
    assert torch.allclose(found, expected)
    slopes = [torch.autograd.grad(one, table.q)[0] for one in (found, expected)]
    assert torch.allclose(*slopes)


def test_each_loss_moves_its_own_part():
    table, log_tau = Table(), torch.tensor(-1.0, requires_grad=True)
    evidence = dataclasses.replace(evidence_of(table, posterior=True), tau=log_tau.exp())
    leaves = {"policy": table.logits, "critic": table.q, "tau": log_tau}
    for head, moved in ((SoftPolicy(), "policy"), (SoftQ(), "critic"), (TemperatureLoss(), "tau")):
        found = total(head, evidence, rollout())
        slopes = torch.autograd.grad(found, tuple(leaves.values()), allow_unused=True, retain_graph=True)
        reached = {name for name, slope in zip(leaves, slopes, strict=True) if slope is not None and slope.any()}
        assert reached == {moved}


def test_a_learned_temperature_takes_the_place_of_the_heads():
    table, tau = Table(), torch.tensor(0.9, dtype=torch.float64)
    for head in (SoftPolicy, SoftQ):
        learned = total(head(0.1), Evidence(soft_q=table.states(), tau=tau), rollout())
        assert torch.equal(learned, total(head(0.9), Evidence(soft_q=table.states()), rollout()))


def test_what_a_cut_completion_led_to_is_its_reward_or_not_trained_on():
    table = Table()
    evidence, cut = Evidence(soft_q=table.states()), torch.arange(len(RESPONSES)) % 3 == 0
    batch = rollout(finished=~cut)
    moved = dataclasses.replace(batch, reward=batch.reward + 5.0 * cut)
    assert total(SoftQ(TAU), evidence, batch) == total(SoftQ(TAU), evidence, rollout())
    found, other = (total(SoftQ(TAU, cut="bootstrap"), evidence, one) for one in (batch, moved))
    assert torch.equal(found, other)
    left = torch.ones(TOKENS, dtype=torch.float64).index_fill(0, (LENGTHS.cumsum(0) - 1)[cut], 0.0)
    values, q = dense_values(table, table.slow).detach(), table.q[:, STATE_OF, IDS]
    later = torch.where(OWNER.roll(-1) == OWNER, values[STATE_OF.roll(-1)], batch.reward[OWNER])
    later[-1] = batch.reward[-1]
    assert torch.allclose(found, (left * (q - later).square().sum(0)).sum() / 2)
    with pytest.raises(InputError, match="reads 'finished'"):
        SoftQ(cut="bootstrap")(evidence, rollout(finished=None))


def test_tokens_that_are_not_trained_on_are_part_of_the_way_to_the_next_state():
    table = Table()
    place = next(t for t in range(TOKENS) if OWNER[t] == len(RESPONSES) - 1)  # a response of three words
    weight = torch.zeros(TOKENS, dtype=torch.float64).index_fill(0, torch.tensor([place, place + 2]), 1.0)
    batch = weighted(rollout(), weight)
    found = total(SoftQ(TAU, gamma=0.5), evidence_of(table), batch)
    values, q = dense_values(table, table.slow), table.q[:, STATE_OF, IDS]
    targets = {place: 0.5 * values[STATE_OF[place + 2]], place + 2: batch.reward[-1]}
    expected = sum((q[:, t] - target).square().sum() / 2 for t, target in targets.items())
    assert torch.allclose(found, expected)
    without = weighted(rollout(), weight.index_fill(0, torch.tensor([place + 2]), 0.0))
    found = total(SoftQ(TAU), Evidence(soft_q=table.states()), without)
    assert torch.allclose(found, (q[:, place] - batch.reward[-1]).square().sum() / 2)


def test_completions_of_weight_zero_reach_nothing():
    table = Table()
    some = torch.arange(len(RESPONSES)) % 2 == 0
    batch = rollout(weight=(~some).double())
    spoiled = dataclasses.replace(batch, reward=batch.reward.masked_fill(some, torch.nan))
    for head in (SoftPolicy(TAU), SoftQ(TAU)):
        found, expected = (total(head, Evidence(soft_q=table.states()), one) for one in (spoiled, batch))
        assert torch.equal(found, expected)
        slopes = [torch.autograd.grad(one, (table.logits, table.q), allow_unused=True) for one in (found, expected)]
        assert all(torch.equal(*pair) for pair in zip(*slopes, strict=True) if pair[0] is not None)


@pytest.mark.parametrize("posterior", [False, True])
def test_the_temperature_rises_where_the_policy_has_too_little_entropy(posterior):
    table, log_tau = Table(), torch.tensor(math.log(0.3), dtype=torch.float64, requires_grad=True)
    evidence = dataclasses.replace(evidence_of(table, posterior), tau=log_tau.exp())
    law = table.logits.detach().log_softmax(-1)
    entropy = -(law.exp() * (law - (BASE if posterior else 0.0))).sum(-1)[STATE_OF]
    excess = (entropy - 0.5).sum().item()
    found = total(TemperatureLoss(0.5), evidence, rollout())
    assert found.item() == pytest.approx(0.3 * excess)
    assert torch.autograd.grad(found, log_tau)[0].item() == pytest.approx(0.3 * excess)
    metrics = {one.name: float(one.total / one.weight) for one in TemperatureLoss(0.5)(evidence, rollout()).metrics}
    assert metrics == {"tau": pytest.approx(0.3), "relative_entropy": pytest.approx(float(entropy.mean()))}


def test_a_critic_that_knows_nothing_leaves_the_policy_at_the_reference():
    table = Table()
    with torch.no_grad():
        table.logits.copy_(BASE)
        table.q.fill_(0.7)
    (slope,) = torch.autograd.grad(total(SoftPolicy(TAU), evidence_of(table, posterior=True), rollout()), table.logits)
    assert slope.abs().max() < 1e-12


def test_what_is_missing_or_impossible_is_said():
    with pytest.raises(InputError, match="reads 'soft_q'"):
        SoftPolicy()(Evidence(), rollout())
    with pytest.raises(InputError, match="reads 'tau'"):
        TemperatureLoss()(evidence_of(Table()), rollout())
    evidence = evidence_of(Table(), posterior=True)
    lacking = dataclasses.replace(evidence, soft_q=dataclasses.replace(evidence.soft_q, base=None))
    with pytest.raises(InputError, match="reference over the whole vocabulary"):
        SoftPolicy()(lacking, rollout())
    with pytest.raises(InputError, match="gamma is 1.5; a discount"):
        SoftQ(gamma=1.5)
    with pytest.raises(InputError, match="cut is 'nowhere'"):
        SoftQ(cut="nowhere")
    for head in (SoftPolicy, SoftQ):
        with pytest.raises(InputError, match="tau is 0"):
            head(tau=0.0)
