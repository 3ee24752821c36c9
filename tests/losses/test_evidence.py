import dataclasses

import pytest
import torch
from losses.given import LAW, PROMPT_OF, double, evidence, gradient, log_ratios, pairs, scored, total, whole

from lit_rlhf.errors import InputError
from lit_rlhf.losses.bda import ExponentialWeight, PolicyGradient
from lit_rlhf.losses.evidence import completion_logps, completion_rewards, ends, required, responses, reward_gaps
from lit_rlhf.losses.links import EXO, SPPO, Positive, Squared
from lit_rlhf.losses.listwise import NCA, InfoNCA
from lit_rlhf.losses.pra import PRA, LengthDesensitised, PolicyWeighted
from lit_rlhf.losses.ra import RA
from lit_rlhf.losses.rda import RDA, GroupVariance
from lit_rlhf.losses.transport import AOT
from lit_rlhf.losses.unpaired import UnpairedPRA
from lit_rlhf.types import Evidence

PAIRED = [
    PRA(),
    PRA(link=Squared()),
    PRA(link=SPPO()),
    PRA(link=Positive(2.0)),
    PRA(link=EXO(), label_smoothing=0.1),
    LengthDesensitised(),
    PolicyWeighted(PRA()),
    RDA(),
    AOT(),
    AOT(paired=False),
    UnpairedPRA(),
]
SCORED = [RA(partition=p) for p in ("exact", "learned", "group", "mean_reward", "quantile", "none")] + [
    GroupVariance(),
    InfoNCA(),
    NCA(),
    PolicyGradient(),
    ExponentialWeight(),
]
IDS = [f"{type(head).__name__}-{k}" for k, head in enumerate(PAIRED + SCORED)]


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("reference", [True, False])
def test_rewards_of_completions_are_those_of_a_loop(reduce, reference):
    seen, batch = evidence(reference), scored()
    expected = [0.3 * ratio for ratio in log_ratios(seen, reduce)]
    assert completion_rewards(seen, batch, 0.3, reduce).tolist() == pytest.approx(expected)
    assert completion_logps(seen, batch, reduce).tolist() == pytest.approx(
        whole(seen.policy.values.detach(), reduce=reduce)
    )


def test_ends_and_gaps_of_pairs_that_do_not_count_are_0():
    batch = pairs(weight=double([1, 0, 1, 1, 0, 1]), reward_gap=double([1.0, torch.nan, 2, 3, torch.nan, 4]))
    values = torch.arange(9.0).index_fill(0, torch.tensor([6]), torch.nan)
    chosen, rejected = ends(values, batch)
    assert chosen.tolist() == [1, 0, 3, 2, 0, 4] and rejected.tolist() == [3, 0, 7, 5, 0, 8]
    assert reward_gaps(batch).tolist() == [1, 0, 2, 3, 0, 4]


def test_responses_that_do_not_count_are_in_no_group():
    law = double(LAW).index_fill(0, torch.tensor([3]), 0.0)
    found = responses(evidence(), scored(weight=law), 1.0)
    kept = [k for k in range(9) if k != 3]
    assert found.rows.tolist() == kept and found.prompts == 4
    assert found.prompt.tolist() == [PROMPT_OF[k] for k in kept]
    assert found.size.tolist() == [2.0] * 8
    expected = {p: [k for k in kept if PROMPT_OF[k] == p] for p in range(4)}
    values = torch.arange(8.0)
    assert found.mean(values).tolist() == [sum(kept.index(k) for k in expected[PROMPT_OF[row]]) / 2 for row in kept]


@pytest.mark.parametrize(
    "head", [GroupVariance(), InfoNCA(), PolicyGradient(), RA(partition="mean_reward")], ids=lambda h: type(h).__name__
)
def test_a_response_without_weight_changes_nothing_even_as_nan(head):
    law = double(LAW).index_fill(0, torch.tensor([3]), 0.0)
    batch = scored(weight=law)
    without = batch.select(torch.tensor([0, 1, 2, 4, 5, 6, 7, 8]))
    seen = evidence()
    tokens = torch.cat([torch.arange(8), torch.arange(10, 23)])
    part = Evidence(type(seen.policy)(seen.policy.values.detach()[tokens]), seen.reference[tokens])
    seen.policy.values.data[8:10] = torch.nan
    spoiled = dataclasses.replace(batch, reward=batch.reward.index_fill(0, torch.tensor([3]), torch.nan))
    assert total(head, seen, spoiled) == pytest.approx(total(head, part, without))
    slope = gradient(head, seen, spoiled)
    assert torch.isfinite(slope).all() and not slope[8:10].any()


@pytest.mark.parametrize(
    "head",
    [PRA(), PRA(link=EXO(), label_smoothing=0.1), PolicyWeighted(PRA()), RDA(), AOT(), UnpairedPRA()],
    ids=lambda h: type(h).__name__,
)
def test_a_pair_without_weight_changes_nothing_even_as_nan(head):
    law = double([1, 0.5, 2, 1.5, 0, 3])
    batch, seen = pairs(weight=law), evidence()
    without = pairs(
        **{
            name: getattr(batch, name)[[0, 1, 2, 3, 5]]
            for name in ("chosen", "rejected", "probability", "reward_gap", "weight")
        }
    )
    expected = total(head, evidence(), without)
    seen.policy.values.data[:3] = torch.nan  # sequence 0, which only this pair has
    assert total(head, seen, batch) == pytest.approx(expected)
    slope = gradient(head, seen, batch)
    assert torch.isfinite(slope).all() and not slope[:3].any()


@pytest.mark.parametrize("head", PAIRED + SCORED, ids=IDS)
def test_a_learned_temperature_takes_the_place_of_the_head_s(head):
    batch = pairs() if head in PAIRED else scored()
    learned = {"log_partition": double([0.1, -0.3, 0.7, 0.2])}
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    inner = getattr(head, "head", head)
    fixed = dataclasses.replace(inner, tau=0.7)
    fixed = fixed if inner is head else dataclasses.replace(head, head=fixed)
    output = head(evidence(tau=tau, **learned), batch)
    assert float(output.terms[0].total.detach()) == pytest.approx(total(fixed, evidence(**learned), batch))
    if head.family == "BDA":  # its advantages and weights are constants
        return
    (slope,) = torch.autograd.grad(output.terms[0].total, tau)
    if head.observes:  # statistics of the step are constants
        assert torch.isfinite(slope)
        return
    around = [total(_with_tau(head, 0.7 + sign * 1e-5), evidence(**learned), batch) for sign in (-1, 1)]
    assert slope.item() == pytest.approx((around[1] - around[0]) / 2e-5, rel=1e-5, abs=1e-7)


def _with_tau(head, tau):
    if hasattr(head, "head"):
        return dataclasses.replace(head, head=_with_tau(head.head, tau))
    return dataclasses.replace(head, tau=tau)


@pytest.mark.parametrize("head", PAIRED + SCORED, ids=IDS)
def test_double_precision_stays_double(head):
    batch = pairs() if head in PAIRED else scored()
    single = dataclasses.replace(
        batch, sequences=dataclasses.replace(batch.sequences, weight=batch.sequences.token_weight.float())
    )
    learned = {"log_partition": double([0.1, -0.3, 0.7, 0.2])}
    for given in (batch, single):
        (term,) = head(evidence(**learned), given).terms
        assert term.total.dtype == torch.float64
        assert term.total.item() == pytest.approx(total(head, evidence(**learned), batch), rel=1e-12)


@pytest.mark.parametrize("field", ["policy", "score", "log_partition"])
def test_a_missing_part_is_named(field):
    with pytest.raises(InputError, match=f"reads '{field}'.*no part that gives it"):
        required(Evidence(), field)


def test_a_missing_column_is_named():
    with pytest.raises(InputError, match="reads 'reward_gap'.*batch has none"):
        reward_gaps(pairs(reward_gap=None))


@pytest.mark.parametrize(
    "cls", [PRA, RA, RDA, GroupVariance, InfoNCA, UnpairedPRA, AOT, ExponentialWeight], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("tau", [0.0, -0.1, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(cls, tau):
    with pytest.raises(InputError, match=rf"{cls.__name__}.tau is {tau}; it is a positive number"):
        cls(tau=tau)


@pytest.mark.parametrize("cls", [PRA, RA, RDA, GroupVariance, InfoNCA, UnpairedPRA], ids=lambda c: c.__name__)
def test_an_unknown_reduction_is_refused(cls):
    with pytest.raises(InputError, match=rf"{cls.__name__}.reduce is 'average'; it is one of sum, mean"):
        cls(reduce="average")
