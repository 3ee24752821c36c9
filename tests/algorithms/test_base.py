import copy
import math

import pytest
import torch
from support import Bigram, FrozenBigram, GivenItems, fit, preferences

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.algorithms.schedules import Linear
from lit_rlhf.errors import InputError
from lit_rlhf.losses.pra import PRA
from lit_rlhf.losses.regularisers import NLL, KLPenalty
from lit_rlhf.losses.unpaired import UnpairedPRA
from lit_rlhf.types import Evidence


def sgd(groups):
    return torch.optim.SGD(groups, lr=0.5)


def trained(items, loss, reference=None, **trainer):
    module = Algorithm(Bigram(), loss, reference=reference, optimizer=sgd, max_grad_norm=None)
    fit(module, GivenItems(items), **trainer)
    return module


def test_one_step_is_the_gradient_of_the_mean_over_the_whole_step():
    batches = [preferences(seed) for seed in range(3)]
    module = trained([tuple(batches)], PRA(tau=0.7) + 0.3 * NLL())
    policy = Bigram()
    pairs = sum(len(batch.chosen) for batch in batches)
    tokens, total, nll = 0, 0.0, 0.0
    for batch in batches:
        logps = policy.token_logps(batch.sequences).values.split(batch.sequences.completion_lengths.tolist())
        sums = torch.stack([row.sum() for row in logps])
        h = 0.7 * (sums[batch.chosen] - sums[batch.rejected])
        p = batch.probability
        total = total - (p * torch.nn.functional.logsigmoid(h) + (1 - p) * torch.nn.functional.logsigmoid(-h)).sum()
        nll = nll - sums[batch.chosen].sum()
        tokens += int(batch.sequences.completion_lengths[batch.chosen].sum())
    (total / pairs + 0.3 * nll / tokens).backward()
    expected = policy.table - 0.5 * policy.table.grad
    assert torch.allclose(module.actor.table, expected, atol=1e-6)


@pytest.mark.parametrize("loss", [PRA(tau=0.5), UnpairedPRA(), 0.5 * NLL() + 2.0 * PRA()], ids=["pra", "kto", "sum"])
def test_micro_batches_change_nothing(loss):
    whole = preferences(0, prompts=6)
    items = [(whole,), tuple(whole.split(20)), tuple(whole.split(12))]
    assert len({len(item) for item in items}) == 3
    weights = [trained([item], loss, FrozenBigram()).actor.table for item in items]
    for other in weights[1:]:
        assert torch.allclose(other, weights[0], atol=1e-6)


def test_an_item_is_one_step_of_optimizer_and_schedule():
    module = Algorithm(Bigram(), PRA(), optimizer=sgd, schedule=Linear())
    trainer = fit(module, GivenItems([tuple(preferences(k).split(14)) for k in range(4)]))
    assert trainer.global_step == module.items_done == 4
    assert module.lr_schedulers().last_epoch == 4
    assert module.optimizers().param_groups[0]["lr"] == pytest.approx(0.0)


def test_the_gradient_is_clipped_to_the_norm_given():
    batch = preferences(1)
    free = Algorithm(Bigram(), PRA(tau=50.0), optimizer=sgd, max_grad_norm=None)
    clipped = Algorithm(Bigram(), PRA(tau=50.0), optimizer=sgd, max_grad_norm=0.1)
    for module in (free, clipped):
        fit(module, GivenItems([(batch,)]))
    start = Bigram().table
    assert (free.actor.table - start).norm() > 0.5 * 0.1 * 2
    assert (clipped.actor.table - start).norm().item() == pytest.approx(0.5 * 0.1, rel=1e-4)


def broken(batch):
    bad = copy.copy(batch)
    object.__setattr__(bad, "probability", torch.full_like(batch.probability, math.nan))
    return bad


def test_a_nonfinite_gradient_stops_the_run_and_names_the_rows():
    module = Algorithm(Bigram(), PRA(), optimizer=sgd)
    with pytest.raises(FloatingPointError, match="update 2.*given:1"):
        fit(module, GivenItems([(preferences(0),), (broken(preferences(1)),)]))


def test_a_nonfinite_gradient_is_skipped_and_counted():
    good = [(preferences(0),), (preferences(2),)]
    module = Algorithm(Bigram(), PRA(), optimizer=sgd, on_nonfinite="skip", max_grad_norm=None)
    fit(module, GivenItems([good[0], (broken(preferences(1)),), good[1]]))
    assert torch.equal(module.actor.table, trained(good, PRA(tau=module.loss.tau)).actor.table)
    assert module.recorder.flush()["skipped_steps"] == pytest.approx(1 / 3)


def test_the_recorded_loss_is_the_mean_over_steps():
    items = [tuple(preferences(k, prompts=5).split(14)) for k in range(2)]
    module = Algorithm(Bigram(), PRA(tau=0.3), optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0))
    fit(module, GivenItems(items))
    policy, losses = Bigram(), []
    for k in range(2):
        batch = preferences(k, prompts=5)
        output = PRA(tau=0.3)(Evidence(policy=policy.token_logps(batch.sequences)), batch)
        losses.append(float(output.terms[0].total.detach()) / 5)
    assert module.recorder.flush()["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_a_head_without_its_part_is_refused_by_name():
    with pytest.raises(InputError, match="model.reference.*KLPenalty"):
        Algorithm(Bigram(), KLPenalty())


def test_a_part_that_trains_nothing_is_refused():
    module = Algorithm(Bigram().requires_grad_(False), PRA(), optimizer=sgd)
    with pytest.raises(InputError, match=r"model\.actor: none of its weights is trained"):
        fit(module, GivenItems([(preferences(0),)]))


def test_the_reference_is_in_no_state_dict_and_no_optimizer():
    module = Algorithm(Bigram(), PRA(), reference=FrozenBigram())
    assert set(module.state_dict()) == {"actor.table"}
    assert [name for name, _ in module.named_parameters()] == ["actor.table"]


def test_validation_sums_are_exact_over_uneven_items():
    batches = [preferences(0, prompts=4), preferences(1, prompts=1)]
    module = Algorithm(Bigram(), PRA(tau=0.4), optimizer=sgd, metrics=[])
    fit(module, GivenItems([(preferences(2),)], validation=[(batch,) for batch in batches]), num_sanity_val_steps=0, max_steps=0)
    module.val_recorder.flush()
    for batch in batches:
        module.validation_step((batch,), 0)
    module2 = Algorithm(Bigram(), PRA(tau=0.4), metrics=[])
    fit(module2, GivenItems([(preferences(2),)]), max_steps=0)
    total = sum(float(PRA(tau=0.4)(Evidence(policy=Bigram().token_logps(b.sequences)), b).terms[0].total.detach()) for b in batches)
    found = module.val_recorder.flush()
    assert found[next(name for name in found if name.startswith("loss/"))] == pytest.approx(total / 5, rel=1e-5)


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "64-true"])
def test_a_precision_that_would_change_what_is_kept_is_refused(precision):
    with pytest.raises(InputError, match=f"trainer.precision: {precision}, expected 32-true or bf16-mixed"):
        fit(Algorithm(Bigram(), PRA(), optimizer=sgd), GivenItems([(preferences(0),)]), precision=precision)
