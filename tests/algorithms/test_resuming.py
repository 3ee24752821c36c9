import pytest
import torch
from support import Bigram, GivenItems, fit, preferences

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.resuming import apply_changes, settings_of
from lit_rlhf.algorithms.schedules import Linear
from lit_rlhf.errors import InputError
from lit_rlhf.losses.pra import PRA


def adamw(**settings):
    return torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))]}], **({"lr": 0.1} | settings))


def restored(optimizer, before):
    """`optimizer` with the state of a run whose optimizer had the settings `before`."""
    optimizer.load_state_dict(before.state_dict())
    return optimizer


def test_a_changed_setting_wins_and_the_others_stay():
    old, new = adamw(weight_decay=0.5), adamw(weight_decay=0.25)
    before, now = settings_of(old), settings_of(new)
    old.param_groups[0]["betas"] = (0.8, 0.9)  # as a cyclic schedule moves them
    apply_changes(restored(new, old), [], before, now)
    assert new.param_groups[0]["weight_decay"] == 0.25
    assert new.param_groups[0]["betas"] == (0.8, 0.9)


def test_a_changed_learning_rate_goes_on_with_its_schedule():
    halved = {"lr_lambda": lambda step: 0.5**step}
    old, new = adamw(lr=0.1), adamw(lr=0.4)
    before, now = settings_of(old), settings_of(new)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, **halved) for optimizer in (old, new)]
    for _ in range(2):
        old.step(), schedules[0].step()
    restored(new, old)
    schedules[1].load_state_dict(schedules[0].state_dict())
    apply_changes(new, schedules[1:], before, now)
    assert new.param_groups[0]["lr"] == pytest.approx(0.4 / 4)
    new.step(), schedules[1].step()
    assert new.param_groups[0]["lr"] == pytest.approx(0.4 / 8)


def test_another_class_of_optimizer_is_refused():
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(InputError, match=r"model\.optimizer\.class_path: the checkpoint is of AdamW, and SGD cannot go on"):
        apply_changes(sgd, [], settings_of(adamw()), settings_of(sgd))


@pytest.mark.parametrize("schedule", [None, Linear(final=1.0)])
def test_a_resumed_run_takes_the_learning_rate_that_it_is_given(schedule, tmp_path):
    items = GivenItems([(preferences(seed),) for seed in range(4)])

    def run(rate, steps, resume=None):
        module = Algorithm(Bigram(), PRA(), optimizer=lambda groups: torch.optim.SGD(groups, lr=rate), schedule=schedule)
        return module, fit(module, items, max_epochs=-1, max_steps=steps, resume=resume)

    first, trainer = run(0.5, 2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    for rate in (0.5, 0.125):
        again, _ = run(rate, 3, str(tmp_path / "two.ckpt"))
        assert again.optimizers().param_groups[0]["lr"] == rate
        moved = float((again.actor.table - first.actor.table).detach().norm())
        assert moved == pytest.approx(float(again.actor.table.grad.norm()) * rate, rel=1e-5)
