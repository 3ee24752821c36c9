import dataclasses

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from credit.given import double, rollout

from lit_rlhf.algorithms.recording import Recorder
from lit_rlhf.credit.base import CreditStep, credited
from lit_rlhf.credit.kl import AdaptiveKL, KLInReward
from lit_rlhf.credit.normalising import Baseline, Whiten
from lit_rlhf.credit.statistics import moments
from lit_rlhf.credit.temporal import GAE
from lit_rlhf.credit.truncation import DropConstantGroups, MaskTruncated

PARTS = (torch.tensor([1, 3]), torch.tensor([0, 2, 4, 5, 6, 7]))
"""The sequences of whole prompts, for each of two ranks."""


def steps() -> list[CreditStep]:
    first = [MaskTruncated(), DropConstantGroups(), KLInReward(AdaptiveKL(0.2, 1.0, 50))]
    return [*first, GAE(), Baseline(), Whiten(), Whiten(False, "sequence")]


def outcome(part: torch.Tensor | None) -> tuple[torch.Tensor, dict[str, float], list[dict]]:
    """Advantages of two iterations, the metrics and the states, with this part of the sequences."""
    made, recorder, found = steps(), Recorder(), []
    for seed in range(2):
        given = rollout(seed)
        done = credited(given if part is None else given.select(part), made)
        recorder.add_metrics(done.metrics)
        found.append(done.rollout.advantages)
    return torch.stack(found), recorder.flush(), [step.state_dict() for step in made]


def _rank(rank: int, store: str, alone) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    advantages, metrics, states = outcome(PARTS[rank])
    whole = [dataclasses.replace(rollout(seed), advantages=one) for seed, one in enumerate(alone[0])]
    expected = torch.stack([one.select(PARTS[rank]).advantages for one in whole])
    assert torch.allclose(advantages, expected, rtol=1e-10)
    assert metrics == pytest.approx(alone[1], rel=1e-10)
    for state, other in zip(states, alone[2], strict=True):
        assert state == pytest.approx(other, rel=1e-10)
    dist.destroy_process_group()


def test_two_processes_give_what_one_gives(tmp_path):
    alone = outcome(None)
    assert alone[0].any() and len(alone[1]) > 5 and alone[2][2]["tau"] != 0.2
    mp.start_processes(_rank, args=(str(tmp_path / "store"), alone), nprocs=2, start_method="fork")


def test_moments_by_a_loop_and_of_nothing():
    values, weight = double([1.0, -2.0, torch.nan, 4.0]), double([1.0, 0.5, 0.0, 2.0])
    mean = (1.0 - 1.0 + 8.0) / 3.5
    variance = ((1.0 - mean) ** 2 + 0.5 * (-2.0 - mean) ** 2 + 2.0 * (4.0 - mean) ** 2) / 3.5
    assert [one.item() for one in moments(values, weight)] == pytest.approx([mean, variance, 3.5])
    assert [one.item() for one in moments(values, torch.zeros(4))] == [0.0, 0.0, 0.0]
