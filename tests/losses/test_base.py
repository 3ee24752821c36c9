import dataclasses

import pytest
import torch
from losses.given import EDGES, GAP, PAIR_WEIGHT, evidence, gradient, pairs, scored, total, whole

from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import AgainstBehaviour, LossOutput, Prior, Scaled, Sum, Term
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.losses.regularisers import NLL, KLPenalty
from lit_rlhf.losses.transport import AOT
from lit_rlhf.losses.unpaired import UnpairedPRA
from lit_rlhf.types import Law, Rollout


def test_a_sum_keeps_each_head_s_terms_and_units():
    head = PRA() + NLL() + KLPenalty()
    output = head(evidence(), pairs())
    assert [(term.name, term.unit) for term in output.terms] == [
        ("pra", "pair"),
        ("nll", "chosen_token"),
        ("k2", "token"),
    ]
    assert head.needs == {"policy", "reference", "chosen"}
    assert (head.family, head.unit) == ("PRA", "pair")


def test_the_family_of_a_sum_is_that_of_its_first_head_that_has_one():
    assert (NLL() + PRA()).family == "PRA" and (NLL() + KLPenalty()).family == "regulariser"


def test_a_multiple_scales_terms_and_gradients_and_leaves_metrics():
    seen, batch, head = evidence(), pairs(), 0.25 * (0.5 * PRA())
    assert isinstance(head, Scaled) and head.unit == "pair"
    assert total(head, seen, batch) == pytest.approx(0.125 * total(PRA(), seen, batch))
    assert head(seen, batch).terms[0].coefficient == 0.125
    assert torch.allclose(gradient(head, seen, batch), 0.125 * gradient(PRA(), seen, batch))
    assert [(m.name, m.total) for m in head(seen, batch).metrics] == [
        (m.name, m.total) for m in PRA()(seen, batch).metrics
    ]


def test_every_head_of_a_sum_finds_its_own_statistics():
    batch, seen = pairs(), evidence()
    heads = (UnpairedPRA(), NLL(), 2.0 * AOT())
    head = Sum(heads)
    assert head.observes == 2 == len(head.observe(seen, batch))
    observed = dataclasses.replace(seen, observed=head.observe(seen, batch))
    alone = [float(term.total.detach()) for part in heads for term in part(seen, batch).terms]
    assert [float(term.total.detach()) for term in head(observed, batch).terms] == alone
    swapped = dataclasses.replace(
        seen, observed=tuple(dataclasses.replace(one, values=one.values + 1) for one in observed.observed)
    )
    assert [float(term.total.detach()) for term in head(swapped, batch).terms] != alone


def test_prior_hides_the_reference_from_one_head():
    batch = pairs()
    assert total(Prior(PRA()), evidence(), batch) == total(PRA(), evidence(reference=False), batch)
    mixed = (Prior(PRA()) + KLPenalty())(evidence(), batch)
    assert float(mixed.terms[0].total.detach()) == total(PRA(), evidence(reference=False), batch)
    assert float(mixed.terms[1].total.detach()) == total(KLPenalty(), evidence(), batch)


@pytest.mark.parametrize(
    "head", [KLPenalty(), PRA() + KLPenalty(), RA(partition="group")], ids=lambda head: type(head).__name__
)
def test_prior_refuses_a_head_that_needs_a_reference(head):
    with pytest.raises(InputError, match=f"Prior hides the reference, and {type(head).__name__} cannot do without"):
        Prior(head)


def test_against_behaviour_measures_from_the_law_that_sampled():
    batch, seen = scored(), evidence()
    behaviour = seen.reference - 0.3
    rollout = Rollout(batch.sequences, behaviour, batch.reward, weight=batch.weight)
    head = AgainstBehaviour(GroupVariance())
    assert head.needs == {"policy", "reward", "group", "behaviour"}
    assert AgainstBehaviour(RA(partition="group")).needs == {"policy", "reward", "group", "behaviour"}
    expected = total(GroupVariance(), dataclasses.replace(seen, reference=behaviour), batch)
    assert total(head, seen, rollout) == total(head, evidence(reference=False), rollout) == expected
    with pytest.raises(InputError, match="AgainstBehaviour.*ScoredBatch has none"):
        head(seen, batch)


def drawn():
    """A rollout of the given sequences, and evidence of the policy under the law that sampled it."""
    batch, seen = scored(), evidence()
    law = Law(temperature=0.7)
    rollout = Rollout(batch.sequences, seen.reference - 0.3, batch.reward, weight=batch.weight, law=law)
    acting = (seen.policy.values.detach() - 0.2).requires_grad_()
    return rollout, dataclasses.replace(seen, policy=dataclasses.replace(seen.policy, acting=acting))


@pytest.mark.parametrize("head", [RA(0.7, "mean_reward"), RA(0.7, "half"), GroupVariance(0.7), KLPenalty()], ids=repr)
def test_against_behaviour_reads_the_policy_under_the_law_that_sampled(head):
    rollout, seen = drawn()
    acting = dataclasses.replace(seen.policy, values=seen.policy.acting)
    plain = dataclasses.replace(seen, policy=acting, reference=rollout.behaviour)
    assert total(AgainstBehaviour(head), seen, rollout) == total(head, plain, rollout)
    with pytest.raises(InputError, match="law=rollout.law"):
        AgainstBehaviour(head)(evidence(), rollout)


def test_rebel_on_drawn_pairs_by_a_loop():
    """1/eta (log(pi/pi_t)(y) - log(pi/pi_t)(y')) - (r - r'), squared (https://arxiv.org/abs/2404.16767), halved."""
    rollout, seen = drawn()
    ratio, eta = whole(seen.policy.acting.detach() - rollout.behaviour), 1.6
    expected = sum(
        weight * ((ratio[y] - ratio[other]) / eta - gap) ** 2 / 2
        for (y, other), gap, weight in zip(EDGES, GAP, PAIR_WEIGHT, strict=True)
    )
    head, batch = AgainstBehaviour(RDA(1 / eta)), pairs(drawn=rollout)
    assert total(head, seen, batch) == pytest.approx(expected)
    with pytest.raises(InputError, match="AgainstBehaviour.*PreferenceBatch has none"):
        head(seen, pairs())


def test_the_pairs_of_a_rollout_carry_its_behaviour():
    rollout, seen = drawn()
    every = dataclasses.replace(rollout.pairs(), weight=None)
    plain = dataclasses.replace(every, drawn=None)
    policy = dataclasses.replace(seen.policy, values=seen.policy.acting)
    against = dataclasses.replace(seen, policy=policy, reference=rollout.behaviour)
    assert total(AgainstBehaviour(RDA()), seen, every) == total(RDA(), against, plain)


def test_posterior_with_r_is_prior_with_the_shaped_reward():
    batch = pairs()
    seen, tau = evidence(), 0.7
    base = torch.nan_to_num(seen.reference) * batch.sequences.token_weight
    shape = tau * torch.segment_reduce(base, "sum", lengths=batch.sequences.completion_lengths)
    shaped = dataclasses.replace(batch, reward_gap=batch.reward_gap + shape[batch.chosen] - shape[batch.rejected])
    assert total(RDA(tau), seen, batch) == pytest.approx(total(Prior(RDA(tau)), seen, shaped), abs=1e-12)
    assert torch.allclose(gradient(RDA(tau), seen, batch), gradient(Prior(RDA(tau)), seen, shaped))


def test_terms_and_outputs_are_plain_values():
    term = Term("a", torch.tensor(1.0), "pair")
    assert LossOutput((term,)).metrics == () and term.coefficient == 1.0
