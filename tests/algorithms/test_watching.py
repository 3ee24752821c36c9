"""What is watched, against sums by hand."""

import dataclasses

import pytest
import torch
from support import preferences, scored

from lit_rlhf.algorithms.watching import watched
from lit_rlhf.types import Evidence, TokenLogps


def values(metrics):
    return {metric.name: float(metric.total / metric.weight) for metric in metrics}


def test_means_per_token_and_per_pair():
    batch = preferences(3, prompts=4)
    batch = dataclasses.replace(batch, weight=torch.tensor([1.0, 2.0, 0.0, 1.0]))
    tokens = len(batch.sequences.completion_ids)
    generator = torch.Generator().manual_seed(0)
    policy, reference = -torch.rand(tokens, generator=generator), -torch.rand(tokens, generator=generator)
    found = values(watched(Evidence(policy=TokenLogps(policy), reference=reference), batch))
    lengths = batch.sequences.completion_lengths
    for end, which in (("chosen", batch.chosen), ("rejected", batch.rejected)):
        weight, length = batch.weight, lengths[which].float()
        own = torch.stack([policy.split(lengths.tolist())[i].sum() for i in which.tolist()])
        its = torch.stack([reference.split(lengths.tolist())[i].sum() for i in which.tolist()])
        count = (weight * length).sum()
        assert found[f"length/{end}"] == pytest.approx(float(count / weight.sum()))
        assert found[f"logp/{end}"] == pytest.approx(float((weight * own).sum() / count))
        assert found[f"logp_change/{end}"] == pytest.approx(float((weight * (own - its)).sum() / count), abs=1e-6)
        if end == "chosen":
            assert found["chosen_rising"] == pytest.approx(float((weight * (own > its)).sum() / weight.sum()))


def test_what_is_not_known_is_not_watched():
    pairs, responses = preferences(0), scored(0)
    tokens = TokenLogps(torch.zeros(len(pairs.sequences.completion_ids)))
    assert set(values(watched(Evidence(policy=tokens), pairs))) == {
        "length/chosen", "length/rejected", "logp/chosen", "logp/rejected"}
    assert set(values(watched(Evidence(score=torch.zeros(6)), responses))) == {"length"}
