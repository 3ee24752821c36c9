import math

import pytest
import torch

from lit_rlhf.algorithms.schedules import Constant, Cosine, Linear, TorchSchedule


def rates(schedule, total, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule.build(optimizer, total)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warmup_rises_linearly_then_linear_falls_to_the_final_factor():
    found = rates(Linear(warmup=0.4, final=0.5), total=10, steps=11)
    assert found[:4] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1])
    assert found[4:] == pytest.approx([1 - 0.5 * k / 6 for k in range(7)])


def test_cosine_is_a_half_cosine():
    found = rates(Cosine(final=0.2), total=8, steps=9)
    assert found == pytest.approx([0.2 + 0.8 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(9)])


def test_constant_needs_no_number_of_updates_without_warmup():
    assert rates(Constant(), total=None, steps=3) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", [Constant(warmup=0.1), Linear(), Cosine()])
def test_a_schedule_over_an_unknown_number_of_updates_is_refused(schedule):
    with pytest.raises(ValueError, match="trainer.max_steps"):
        rates(schedule, total=None, steps=1)


def test_warmup_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        Constant(warmup=1.0)


def test_any_torch_scheduler_serves():
    schedule = TorchSchedule(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1))
    assert rates(schedule, total=None, steps=4) == pytest.approx([1, 1, 0.1, 0.1])
