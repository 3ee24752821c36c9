import itertools

import pytest
import torch
from theory.given import FLAT, MU, N, P, RHO, THETA, WORLD, apart, near, random_law

from lit_rlhf.functional.segment import segment_sum
from lit_rlhf.losses.base import AgainstBehaviour, Sum
from lit_rlhf.losses.bda import PolicyGradient
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.regularisers import NLL
from lit_rlhf.theory.residual import independent
from lit_rlhf.theory.worlds import World, expected_loss, minimised, slope


def test_a_world_is_drawn_by_its_seed():
    one, same, other = World.drawn(5, 8, 2.0, 4), World.drawn(5, 8, 2.0, 4), World.drawn(6, 8, 2.0, 4)
    assert one.n == 8 and torch.equal(one.reward, same.reward) and torch.equal(one.lengths, same.lengths)
    assert not torch.equal(one.reward, other.reward)
    assert torch.equal(one.reward, 2 * World.drawn(5, 8).reward)
    assert float(one.log_base.exp().sum()) == pytest.approx(1) and one.prior.log_base is None
    assert int(one.lengths.min()) >= 1 and int(one.lengths.max()) <= 4


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match="log_base has shape"):
        World(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match="lengths has shape"):
        World(torch.zeros(3), lengths=torch.ones(2))


def test_the_tokens_of_a_response_share_its_log_prob():
    sequences = WORLD.sequences()
    assert sequences.completion_lengths.tolist() == WORLD.lengths.tolist()
    tokens = WORLD.per_token(WORLD.log_base, sequences)
    near(segment_sum(tokens, sequences.completion_lengths), WORLD.log_base, 1e-14)
    groups = WORLD.sequences(torch.tensor([[4, 0], [2, 4]]))
    assert groups.prompt_of.tolist() == [0, 0, 1, 1] and len(groups.prompt_lengths) == 2
    assert groups.completion_lengths.tolist() == WORLD.lengths[[4, 0, 2, 4]].tolist()


@pytest.mark.parametrize("labels", ["soft", "drawn"])
def test_an_expected_loss_over_pairs_is_the_sum_over_ordered_pairs(labels):
    tau = 0.7
    log_ratio = tau * (THETA.log_softmax(-1) - WORLD.log_base)
    value = 0.0
    for j, k in itertools.product(range(N), repeat=2):
        h = log_ratio[j] - log_ratio[k]
        value -= RHO[j, k] * (P[j, k] * torch.sigmoid(h).log() + P[k, j] * torch.sigmoid(-h).log())
    batch = WORLD.pairs(RHO, P, labels)
    assert float(batch.count("pair")) == pytest.approx(1)
    assert float(expected_loss(PRA(tau), THETA, WORLD, batch)) == pytest.approx(float(value))


def test_pairs_that_never_occur_are_left_out():
    rho = torch.zeros(N, N, dtype=torch.float64)
    rho[3, 1] = rho[1, 3] = 0.25
    rho[4, 4] = 0.5
    batch = WORLD.pairs(rho)
    assert batch.chosen.tolist() == [1, 4] and batch.rejected.tolist() == [3, 4]
    assert batch.weight.tolist() == [0.5, 0.5] and float(batch.reward_gap[1]) == 0


def test_every_ordered_group_is_there_with_its_probability():
    groups = FLAT.groups(MU, 3)
    assert len(groups.sequences.prompt_lengths) == N**3
    weight = groups.weight.view(-1, 3)
    assert torch.equal(weight[:, 0], weight[:, 2]) and float(weight[:, 0].sum()) == pytest.approx(1)
    mass = torch.zeros(N, dtype=torch.float64).index_add(0, groups.sequences.completion_ids, groups.weight) / 3
    near(mass, MU, 1e-12)
    near(groups.behaviour, MU.log()[groups.sequences.completion_ids], 1e-14)


def test_groups_of_own_samples_give_the_gradient_of_all_responses():
    pi = THETA.softmax(-1)
    whole = slope(PolicyGradient(0.7, "none"), THETA, FLAT, FLAT.scored(pi))
    near(slope(PolicyGradient(0.7, "leave_one_out"), THETA, FLAT, FLAT.groups(pi, 3)), whole, 1e-10)


def test_terms_are_divided_by_their_own_units():
    head, batch = PRA(0.7) + 0.3 * NLL(), WORLD.pairs(RHO, labels="drawn")
    assert isinstance(head, Sum)
    parts = [expected_loss(one, THETA, WORLD, batch) for one in (PRA(0.7), NLL())]
    assert float(expected_loss(head, THETA, WORLD, batch)) == pytest.approx(float(parts[0] + 0.3 * parts[1]))
    tokens = (batch.sequence_weight_as_chosen * WORLD.lengths).sum()
    nll = -(batch.sequence_weight_as_chosen * THETA.log_softmax(-1)).sum() / tokens
    assert float(parts[1]) == pytest.approx(float(nll))


def test_a_rollout_has_the_law_that_sampled_it():
    law = random_law(7, N)
    drawn = WORLD.rollout(law, torch.arange(N)[None])
    found = minimised(AgainstBehaviour(RA(0.8, "exact")), WORLD, drawn).softmax(-1)
    assert apart(found, (law.log() + WORLD.reward / 0.8).softmax(-1)) < 1e-6


def test_the_gradient_does_not_go_through_what_was_sampled():
    theta = THETA.clone().requires_grad_()
    pairs = WORLD.pairs(independent(theta.softmax(-1)).detach())
    assert not slope(PRA(0.8), theta, WORLD, pairs).requires_grad
    assert theta.grad is None
