"""Validation metrics against counts made by hand, in any cut of the data, over ranks."""

import dataclasses
import math

import pytest
import torch
from support import preferences, random_sequences

from lit_rlhf.algorithms.metrics import (
    Distributions,
    Perplexity,
    PreferenceAccuracy,
    PreferenceCalibration,
    ResidualRMS,
    RewardAUROC,
    metric_name,
)
from lit_rlhf.types import Evidence, PreferenceBatch, ScoredBatch, Sequences, TokenLogps


def one_token_each(values, each):
    """Completions of one token whose log-ratio is the value, `each` of them per prompt."""
    n = len(values)
    ones, owner = torch.ones(n, dtype=torch.long), torch.arange(n // each).repeat_interleave(each)
    sequences = Sequences(ones[: n // each], ones[: n // each], ones, ones, owner)
    return sequences, Evidence(policy=TokenLogps(torch.tensor(values) - 2.0), reference=torch.full((n,), -2.0))


def pairs(values, probability, weight=None):
    sequences, evidence = one_token_each(values, 2)
    ends = torch.arange(0, len(values), 2)
    weight = None if weight is None else torch.tensor(weight)
    return evidence, PreferenceBatch(sequences, ends, ends + 1, torch.tensor(probability), weight=weight)


def test_accuracy_counts_the_preferred_end_and_half_of_ties():
    metric = PreferenceAccuracy()
    evidence, batch = pairs([3.0, 1.0, 0.0, 1.0, 5.0, 5.0, 2.0, 1.0], [1.0, 0.2, 0.9, 0.5], [1.0, 2.0, 1.0, 7.0])
    metric.update(evidence, batch)
    assert metric.compute() == pytest.approx((1 + 2 + 0.5) / 4)


def test_calibration_is_zero_for_the_true_law_and_the_gap_otherwise():
    right, wrong = PreferenceCalibration(tau=2.0), PreferenceCalibration(tau=2.0)
    evidence, batch = pairs([0.3, 0.1, 0.2, 0.5], torch.sigmoid(2.0 * torch.tensor([0.2, -0.3])).tolist())
    right.update(evidence, batch)
    assert right.compute() == pytest.approx(0.0, abs=1e-7)
    evidence, batch = pairs([math.log(3) / 2, 0.0], [1.0])
    wrong.update(evidence, batch)
    assert wrong.compute() == pytest.approx(0.25)  # 3/4 and 1/4 predicted of what is certain


def test_the_residual_is_zero_at_the_target_and_hard_labels_have_none():
    metric = ResidualRMS(tau=2.0)
    evidence, batch = pairs([0.3, 0.1, 0.5, 0.5], [float(torch.sigmoid(torch.tensor(0.4))), 1.0])
    metric.update(evidence, batch)
    assert metric.compute() == pytest.approx(0.0, abs=1e-6)
    metric.update(evidence, dataclasses.replace(batch, reward_gap=torch.tensor([0.4 - 3.0, 0.0])))
    assert metric.compute() == pytest.approx((3.0**2 / 3) ** 0.5)
    hard = ResidualRMS()
    hard.update(*pairs([1.0, 0.0], [1.0]))
    assert hard.compute() is None


def test_auroc_is_the_share_of_good_above_bad_over_all_prompts():
    metric = RewardAUROC()
    evidence, batch = pairs([3.0, 100.0, 0.0, 60.0], [1.0, 0.1])
    metric.update(evidence, batch)
    good, bad = [3.0, 60.0], [100.0, 0.0]
    assert metric.compute() == pytest.approx(sum(g > b for g in good for b in bad) / 4)


def test_auroc_of_labels():
    metric = RewardAUROC()
    sequences, evidence = one_token_each([0.1, 0.4, 0.4, 0.9], 1)
    metric.update(evidence, ScoredBatch(sequences, torch.tensor([0.0, 1.0, 0.0, 1.0])))
    assert metric.compute() == pytest.approx((1 + 0.5 + 1 + 1) / 4)


def test_scored_responses_are_compared_within_their_prompt():
    metric = PreferenceAccuracy()
    sequences, evidence = one_token_each([0.0, 1.0, 2.0, 9.0, 8.0, 7.0], 3)
    metric.update(evidence, ScoredBatch(sequences, torch.tensor([0.0, 1.0, 3.0, 0.0, 1.0, 5.0])))
    assert metric.compute() == pytest.approx(3 / 6)


def test_perplexity_is_the_exponential_of_the_mean_over_trained_tokens():
    metric, sequences = Perplexity(), random_sequences(0)
    tokens = len(sequences.completion_ids)
    weighted = dataclasses.replace(sequences, weight=torch.arange(tokens) % 2)
    values = -torch.rand(tokens, generator=torch.Generator().manual_seed(1))
    metric.update(Evidence(policy=TokenLogps(values)), ScoredBatch(weighted, torch.ones(6)))
    assert metric.compute() == pytest.approx(math.exp(-values[1::2].mean()), rel=1e-6)


@pytest.mark.parametrize("kind", [PreferenceAccuracy, PreferenceCalibration, RewardAUROC])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_the_cut_into_batches_changes_nothing(kind, reduce):
    batch = preferences(0, prompts=7)
    logps = -torch.rand(len(batch.sequences.completion_ids), generator=torch.Generator().manual_seed(2))
    whole, parts = kind(0.5, reduce), kind(0.5, reduce)
    whole.update(Evidence(policy=TokenLogps(logps)), batch)
    start = 0
    for part in batch.split(25):
        size = len(part.sequences.completion_ids)
        parts.update(Evidence(policy=TokenLogps(logps[start : start + size])), part)
        start += size
    assert start == len(logps) and parts.compute() == pytest.approx(float(whole.compute()), abs=1e-12)


def _rank(rank, world, port, queue):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    results = []
    for kind in (PreferenceAccuracy, PreferenceCalibration, RewardAUROC):
        metric = kind()
        for seed in ((0, 1, 2) if rank == 0 else (3,) if rank == 1 else ()):  # three batches, one, none
            metric.update(*_random_pairs(seed))
        results.append(float(metric.compute()))
    distributions = Distributions()
    for seed in ((0,) if rank == 0 else ()):
        distributions.update(*_random_pairs(seed))
    results.append(len(distributions.compute()["margin"]))
    queue.put(results)
    dist.barrier()
    dist.destroy_process_group()


def _random_pairs(seed):
    batch = preferences(seed, prompts=2 + seed)
    tokens = len(batch.sequences.completion_ids)
    return Evidence(policy=TokenLogps(-torch.rand(tokens, generator=torch.Generator().manual_seed(seed)))), batch


def test_uneven_ranks_give_what_one_process_gives():
    import socket

    import torch.multiprocessing as mp

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_rank, args=(rank, 3, port, queue)) for rank in range(3)]
    for process in processes:
        process.start()
    gathered = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    expected = []
    for kind in (PreferenceAccuracy, PreferenceCalibration, RewardAUROC):
        metric = kind()
        for seed in range(4):
            metric.update(*_random_pairs(seed))
        expected.append(float(metric.compute()))
    for results in gathered:
        assert results == pytest.approx([*expected, 2])


def test_a_learned_temperature_takes_the_place_of_the_heads():
    evidence, batch = pairs([1.0, 0.0], [float(torch.sigmoid(torch.tensor(2.0)))])
    metric = PreferenceCalibration(tau=0.1)
    metric.update(dataclasses.replace(evidence, tau=torch.tensor(2.0)), batch)
    assert metric.compute() == pytest.approx(0.0, abs=1e-7)


def test_names():
    class OwnMetric(Perplexity):
        name = "mine"

    class PlainName(torch.nn.Module):
        pass

    assert metric_name(OwnMetric()) == "mine" and metric_name(PlainName()) == "plain_name"
