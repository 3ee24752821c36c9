"""What every head must do, whichever it is: a new one is found here by itself."""

import copy
import dataclasses
import math
import pickle

import pytest
import torch
from conformance.heads import FAMILIES, every_head, head_classes
from conformance.worlds import SAMPLED, Parts, gradient, joined, kind_of, numbers, of_prompts, step, world
from support import VOCABULARY, Bigram, FrozenBigram, GivenItems, fit

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import AgainstBehaviour, Prior, Scaled, Sum
from lit_rlhf.losses.regularisers import NLL
from lit_rlhf.types import Batch, Evidence, PreferenceBatch, Rollout

HEADS = {name: head for name, head in every_head().items() if kind_of(head)}
TRAINED = {"policy", "score", "values", "log_partition"}
POISON = {"score", "values", "log_partition"}
SOFT = {"soft_q", "tau"}
STATISTICS = ("entropy", "collision")

BARE = {
    name: head for name, head in HEADS.items()
    if type(head).__name__ == name and not head.needs & (POISON | SAMPLED | SOFT)
}

heads = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())


@pytest.fixture
def parts(request):
    return Parts(request.node.callspec.params.get("head")).double()


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-6, abs=1e-6), name


def hidden(batch, *prompts):
    """The batch with every weight of these prompts 0."""
    given = batch.sequences
    rows = torch.isin(given.prompt_of, torch.tensor(prompts))
    tokens = given.token_weight.masked_fill(rows.repeat_interleave(given.completion_lengths), 0.0)
    law = batch.pair_weight if isinstance(batch, PreferenceBatch) else batch.sequence_weight
    of_law = rows[batch.chosen] if isinstance(batch, PreferenceBatch) else rows
    sequences = dataclasses.replace(given, weight=tokens)
    return dataclasses.replace(batch, sequences=sequences, weight=law.masked_fill(of_law, 0.0))


def test_sizes_are_pairwise_different():
    batch = world("pairs")
    given = batch.sequences
    rows = (given.prompt_lengths, given.completion_lengths, given.completion_ids, batch.chosen)
    sizes = [*map(len, rows), VOCABULARY]
    assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize("kind", ["pairs", "scores", "labels", "rollout", "drawn"])
def test_batches_and_evidence_move_whole_and_come_back_the_same(kind, parts):
    batch = world(kind)
    for container in (batch, parts(batch)):
        assert {tensor.device.type for tensor in tensors(container.to("meta"))} == {"meta"}
        assert same(container.to("cpu"), container) and type(container.to("cpu")) is type(container)


def tensors(container):
    """Every tensor inside, however deep."""
    if isinstance(container, torch.Tensor):
        return [container]
    if not dataclasses.is_dataclass(container):
        return []
    return [tensor for field in dataclasses.fields(container) for tensor in tensors(getattr(container, field.name))]


def test_every_class_is_tried():
    tried = {type(head) for head in HEADS.values()}
    assert tried == set(head_classes())


@heads
def test_a_head_is_a_frozen_value_that_says_what_it_is(head):
    assert dataclasses.is_dataclass(head) and type(head).__dataclass_params__.frozen
    with pytest.raises(dataclasses.FrozenInstanceError):
        head.extra = 1
    assert head.family in FAMILIES
    assert isinstance(head.needs, frozenset)
    assert head == copy.deepcopy(head) == pickle.loads(pickle.dumps(head))


@heads
def test_the_first_term_has_the_unit_that_the_head_names(head, parts):
    batch = world(kind_of(head))
    output = head(parts(batch), batch)
    assert head.unit in batch.units
    assert output.terms[0].unit == head.unit
    assert all(term.total.shape == () and term.total.requires_grad for term in output.terms)


@heads
def test_a_step_is_the_sum_of_its_micro_batches(head, parts):
    batch = world(kind_of(head))
    splits = [batch.split(int(batch.sequences.group_tokens().max())), batch.split(40)]
    assert 1 < len(splits[1]) < len(splits[0])
    whole, slope = numbers(step(head, parts, [batch])), gradient(head, parts, [batch])
    for split in splits:
        close(numbers(step(head, parts, split)), whole)
        for name, value in gradient(head, parts, split).items():
            assert torch.allclose(value, slope[name], rtol=1e-6, atol=1e-8), name


@heads
def test_rows_of_weight_zero_are_absent(head, parts):
    batch = world(kind_of(head))
    rest = of_prompts(batch, [0, 2, 4])
    close(numbers(step(head, parts, [hidden(batch, 1, 3)])), numbers(step(head, parts, [rest])))
    alone = [rest, hidden(of_prompts(batch, [1]), 0)]  # how a rank keeps in step with the others
    close(numbers(step(head, parts, alone)), numbers(step(head, parts, [rest])))


@heads
def test_rows_of_weight_two_are_there_twice(head, parts):
    batch = world(kind_of(head), weighted=False)
    rows = batch.sequences.prompt_of[batch.chosen] if isinstance(batch, PreferenceBatch) else batch.sequences.prompt_of
    doubled = dataclasses.replace(batch, weight=torch.where(rows == 2, 2.0, 1.0))
    once, twice = step(head, parts, [doubled]), step(head, parts, [joined(batch, of_prompts(batch, [2]))])
    if isinstance(batch, PreferenceBatch):  # the law of pairs does not weigh what counts tokens of all sequences
        units = {f"loss/{term.name}": term.unit for term in head(parts(batch), batch).terms}
        once, twice = ({name: sums[name] for name in units if units[name] != "token"} for sums in (once, twice))
    close(numbers(once), numbers(twice))


@heads
def test_the_order_of_sequences_pairs_and_prompts_does_not_matter(head, parts):
    batch = world(kind_of(head))
    draw = torch.Generator().manual_seed(9)
    moved = batch.select(torch.randperm(len(batch.sequences.completion_lengths), generator=draw))
    if isinstance(moved, PreferenceBatch):
        order = torch.randperm(len(moved.chosen), generator=draw)
        edges = ("chosen", "rejected", "probability", "reward_gap", "weight")
        moved = dataclasses.replace(moved, **{name: getattr(moved, name)[order] for name in edges})
    close(numbers(step(head, parts, [moved])), numbers(step(head, parts, [batch])))


@heads
def test_tokens_of_weight_zero_do_not_leak(head, parts):
    batch = world(kind_of(head))
    masked = batch.sequences.token_weight == 0
    assert masked.any()

    def poisoned(given: Batch):
        evidence = parts(given)
        where = given.sequences.token_weight == 0
        fields = {name: getattr(evidence.policy, name) for name in ("values", "acting", *STATISTICS)}
        policy = type(evidence.policy)(**{name: value.masked_fill(where, torch.nan) for name, value in fields.items()})
        others = {name: getattr(evidence, name).masked_fill(where, torch.nan) for name in ("reference", "values")}
        return dataclasses.replace(evidence, policy=policy, **others)

    poisoned.zero_grad, poisoned.named_parameters = parts.zero_grad, parts.named_parameters
    spoiled = with_drawn(batch, lambda rollout: _unknown(rollout, masked))
    close(numbers(step(head, poisoned, [spoiled])), numbers(step(head, parts, [batch])))
    slope = gradient(head, parts, [batch])
    for name, value in gradient(head, poisoned, [spoiled]).items():
        assert torch.equal(value, slope[name]), name


def with_drawn(batch, change):
    """The batch with its rollout changed, or itself where it has none."""
    if isinstance(batch, PreferenceBatch):
        return batch if batch.drawn is None else dataclasses.replace(batch, drawn=change(batch.drawn))
    return change(batch) if isinstance(batch, Rollout) else batch


def _unknown(rollout, where):
    """NaN at these tokens."""
    given = {name: getattr(rollout, name) for name in Rollout.per_token}
    return dataclasses.replace(
        rollout, **{name: value.masked_fill(where, torch.nan) for name, value in given.items() if value is not None}
    )


@heads
def test_rewards_and_credits_of_sequences_of_weight_zero_do_not_leak(head, parts):
    batch = world(kind_of(head))
    if not isinstance(batch, Rollout):
        return
    rows = torch.isin(batch.sequences.prompt_of, torch.tensor([1, 3]))
    given = dataclasses.replace(batch, weight=batch.sequence_weight.masked_fill(rows, 0.0))
    where = rows.repeat_interleave(given.sequences.completion_lengths)
    credits = {name: getattr(given, name).masked_fill(where, torch.nan) for name in ("advantages", "returns")}
    unknown = dataclasses.replace(given, reward=given.reward.masked_fill(rows, torch.nan), **credits)
    close(numbers(step(head, parts, [unknown])), numbers(step(head, parts, [given])))
    slope = gradient(head, parts, [given])
    for name, value in gradient(head, parts, [unknown]).items():
        assert torch.equal(value, slope[name]), name


@heads
def test_nothing_is_read_that_is_not_named(head, parts):
    batch = world(kind_of(head))
    evidence = parts(batch)
    expected = head(evidence, batch)
    unread = {name: torch.full_like(getattr(evidence, name), torch.nan) for name in POISON - head.needs}
    policy = evidence.policy
    acting = set() if head.needs & {"behaviour", "advantages"} else {"acting"}
    for name in (set(STATISTICS) | acting) - head.needs:
        policy = dataclasses.replace(policy, **{name: torch.full_like(getattr(policy, name), torch.nan)})
    poisoned = dataclasses.replace(evidence, policy=policy if "policy" in head.needs else None, **unread)
    absent = dataclasses.replace(evidence, policy=policy if "policy" in head.needs else None, **dict.fromkeys(unread))
    spoiled = _spoiled(batch, head)
    if getattr(batch, "drawn", None) is not None:
        spoiled = dataclasses.replace(spoiled, drawn=_spoiled(batch.drawn, head))
    for seen in (poisoned, absent):
        output = head(seen, spoiled)
        assert [term.total.item() for term in output.terms] == [term.total.item() for term in expected.terms]
        assert [float(one.total) for one in output.metrics] == [float(one.total) for one in expected.metrics]


def _spoiled(batch, head):
    """NaN in every field that the head does not name."""
    known = {field.name for field in dataclasses.fields(batch)} & ({"reward_gap", "reward"} | SAMPLED) - {"opponent", "finished"}
    fields = known - head.needs - ({"reward"} if "label" in head.needs else set())
    return dataclasses.replace(batch, **{name: torch.full_like(getattr(batch, name), torch.nan) for name in fields})


@heads
def test_what_is_named_is_refused_or_missed_when_it_is_not_there(head, parts):
    batch = world(kind_of(head))
    evidence = parts(batch)
    for need in head.needs & (TRAINED | SOFT | {"reference"}):
        with pytest.raises(InputError):
            head(dataclasses.replace(evidence, **{need: None}), batch)
    for need in head.needs & set(STATISTICS):
        with pytest.raises(InputError, match=f"{need}=True"):
            head(dataclasses.replace(evidence, policy=dataclasses.replace(evidence.policy, **{need: None})), batch)
    for need in head.needs & {"reward_gap", "advantages", "returns"}:
        with pytest.raises(InputError):
            head(evidence, dataclasses.replace(batch, **{need: None}))
    if isinstance(head, AgainstBehaviour) and not _reads_a_reference(head.head, evidence, batch):
        return
    for need in head.needs & {"reward", "label", "behaviour", "opponent", "finished"}:
        name = "reward" if need == "label" else need
        if hasattr(batch, name):
            other = flipped(batch, name)
        else:
            other = dataclasses.replace(batch, drawn=flipped(batch.drawn, name))
        assert all_numbers_of(head, evidence, other) != all_numbers_of(head, evidence, batch)
    if "group" in head.needs:
        single = batch.select(torch.tensor([0]))
        with pytest.raises(InputError, match="two or more"):
            head(parts(single), single)


def _reads_a_reference(head, evidence, batch):
    other = dataclasses.replace(evidence, reference=2 * evidence.reference)
    return numbers_of(head, evidence, batch) != numbers_of(head, other, batch)


def flipped(batch, name):
    """The batch with one field from its end to its start."""
    return dataclasses.replace(batch, **{name: getattr(batch, name).flip(0)})


def numbers_of(head, evidence, batch):
    """The totals of the terms."""
    return [term.total.item() for term in head(evidence, batch).terms]


def all_numbers_of(head, evidence, batch):
    """The totals of terms and metrics."""
    return numbers_of(head, evidence, batch) + [metric.total.item() for metric in head(evidence, batch).metrics]


@heads
def test_the_gradient_reaches_the_trained_parts_and_nothing_else(head, parts):
    batch = world(kind_of(head))
    evidence = parts(batch)
    leaves = {name: getattr(evidence, name).detach().requires_grad_() for name in TRAINED - {"policy"}}
    values = evidence.policy.values.detach().requires_grad_()
    entropy, collision = (getattr(evidence.policy, name).detach().requires_grad_() for name in STATISTICS)
    acting = evidence.policy.acting.detach().requires_grad_()
    policy = type(evidence.policy)(values, entropy, collision, acting)
    output = head(dataclasses.replace(evidence, policy=policy, **leaves), batch)
    sum(term.total for term in output.terms).backward()
    reached = {name for name, leaf in (leaves | {"entropy": entropy}).items()
               if leaf.grad is not None and bool(leaf.grad.any())}
    through = {"policy": (values, acting), "soft_q": (parts.soft, parts.policy.table), "tau": (parts.log_tau,)}
    for name, weights in through.items():
        reached |= {name for leaf in weights if leaf is not None and leaf.grad is not None and bool(leaf.grad.any())}
    assert reached and reached <= head.needs and collision.grad is None
    assert reached >= head.needs & ((TRAINED | {"tau"}) - {"policy"})
    assert reached & SOFT or not head.needs & SOFT
    assert reached & {"policy", "entropy"} or "policy" not in head.needs
    assert not any(one.total.requires_grad or one.weight.requires_grad for one in output.metrics)
    assert not any(seen.values.requires_grad for seen in head.observe(evidence, batch))


@heads
def test_extreme_log_ratios_have_finite_gradients(head, parts):
    batch = world(kind_of(head))
    size = 1e4 if _total_at(head, parts, batch, 200.0) < 1e12 else 20.0  # some losses do grow exponentially
    evidence = _extreme(parts(batch), batch, size)
    sum(term.total for term in head(evidence, batch).terms).backward()
    total = sum(term.total for term in head(evidence, batch).terms)
    assert torch.isfinite(total)
    for leaf in (evidence.policy.values, evidence.score, evidence.values):
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


def _extreme(evidence, batch, size, dtype=torch.float32):
    """Log-ratios of whole completions of -size, 0 and size: all in the first token, and every log-prob at most 0."""
    lengths = batch.sequences.completion_lengths
    first = lengths.cumsum(0) - lengths
    kind = torch.arange(len(lengths)) % 3
    policy, reference = torch.zeros(len(evidence.values), dtype=dtype), torch.zeros(len(evidence.values), dtype=dtype)
    policy[first[kind == 0]], reference[first[kind == 1]] = -size, -size
    score = (kind.to(dtype) - 1) * size
    values = torch.zeros(len(policy), dtype=dtype).index_copy(0, first, score)
    statistics = (getattr(evidence.policy, name).to(dtype) for name in STATISTICS)
    return dataclasses.replace(
        evidence, policy=type(evidence.policy)(policy.requires_grad_(), *statistics),
        reference=reference, score=score.requires_grad_(), values=values.requires_grad_(),
        log_partition=evidence.log_partition.to(dtype),
    )


def _total_at(head, parts, batch, size):
    return sum(numbers_of(head, _extreme(parts(batch), batch, size, torch.float64), batch))


@heads
def test_metrics_have_the_same_names_and_finite_sums_for_every_batch(head, parts):
    batch = world(kind_of(head))
    one = of_prompts(batch, [3])
    cases = [batch, world(kind_of(head), weighted=False), one, hidden(one, 0)]
    if isinstance(batch, PreferenceBatch):
        cases += [dataclasses.replace(batch, probability=torch.full_like(batch.probability, 0.5))]
        cases += [batch.select(torch.tensor([0]))]
    names = None
    for case in cases:
        sums = step(head, parts, [case])
        names = names or list(sums)
        assert list(sums) == names
        assert all(math.isfinite(total) and 0 <= weight < math.inf for total, weight in numbers(sums).values())


@heads
def test_the_batch_is_left_as_it_was(head, parts):
    batch = world(kind_of(head))
    evidence = parts(batch)
    before = copy.deepcopy(batch)
    seen = copy.deepcopy(Evidence(reference=evidence.reference))
    head(evidence, batch)
    head.observe(evidence, batch)
    assert same(before, batch)
    assert torch.equal(seen.reference, evidence.reference)


def same(first, second):
    """Whether two containers hold the same, field by field."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if dataclasses.is_dataclass(first):
        return all(same(getattr(first, f.name), getattr(second, f.name)) for f in dataclasses.fields(first))
    return first == second


@heads
def test_the_prior_form_is_the_head_without_a_reference(head, parts):
    if "reference" in head.needs or "behaviour" in head.needs:
        return
    batch = world(kind_of(head))
    evidence = parts(batch)
    without = dataclasses.replace(evidence, reference=None)
    assert numbers_of(Prior(head), evidence, batch) == numbers_of(head, without, batch)


@heads
def test_sums_and_multiples_are_linear(head, parts):
    batch = world(kind_of(head))
    own, nll = numbers(step(head, parts, [batch])), numbers(step(NLL(), parts, [batch]))
    composed = 3.0 * NLL() + 0.25 * head
    assert isinstance(composed, Sum) and isinstance(composed.terms[1], Scaled)
    found = numbers(step(composed, parts, [batch]))
    terms = {name: value for name, value in found.items() if name.startswith("loss/")}
    assert sum(total for total, _ in terms.values()) == pytest.approx(
        3.0 * nll["loss/nll"][0] + 0.25 * sum(total for name, (total, _) in own.items() if name.startswith("loss/"))
    )


@heads
def test_single_and_double_precision_agree(head):
    batch = world(kind_of(head))
    single, double = (step(head, parts, [batch]) for parts in (Parts(head), Parts(head).double()))
    assert all(total.dtype == torch.float32 for name, (total, _) in single.items() if name.startswith("loss/"))
    found = numbers(single)
    for name, expected in numbers(double).items():
        assert found[name] == pytest.approx(expected, rel=2e-3, abs=2e-4), name


def sgd(weights):
    return torch.optim.SGD(weights, lr=0.1)


@pytest.mark.parametrize("head", BARE.values(), ids=BARE.keys())
def test_a_bare_torch_loop_is_the_regime(head):
    batches = [of_prompts(world(kind_of(head)), part) for part in ([0, 1, 4], [2, 3])]
    policy, reference = Bigram(), FrozenBigram()
    optimizer = sgd(policy.parameters())
    for batch in batches:
        policy_logps = policy.token_logps(batch.sequences, entropy=True)
        evidence = Evidence(policy_logps, reference.token_logps(batch.sequences))
        loss = sum(term.total / batch.count(term.unit) for term in head(evidence, batch).terms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module = Algorithm(Bigram(), head, FrozenBigram(), optimizer=sgd, max_grad_norm=None)
    fit(module, GivenItems([tuple(batch.split(30)) for batch in batches]))
    assert torch.allclose(module.actor.table, policy.table, atol=1e-6)
    assert not torch.allclose(policy.table, Bigram().table, atol=1e-4)
