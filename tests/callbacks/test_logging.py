"""The metric logger: when, where, with which step, and that the numbers are the true means."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import pytest
import torch
from callbacks.heads import Pairwise
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from support import Bigram, FrozenBigram, GivenItems, fit, preferences
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchmetrics import Metric

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.callbacks.logging import MetricLogger
from lit_rlhf.callbacks.names import known_names
from lit_rlhf.errors import InputError


class Kept(CSVLogger):
    """Keeps every call."""

    def __init__(self, folder):
        super().__init__(folder)
        self.calls = []

    def log_metrics(self, metrics, step):
        self.calls.append((step, dict(metrics)))


def items(n, start=0):
    return [tuple(preferences(seed).split(12)) for seed in range(start, start + n)]


def algorithm(loss=None, **options):
    return Algorithm(Bigram(), loss or Pairwise(), FrozenBigram(), **options)


def run(folder, module=None, train=5, validation=2, **settings):
    logger = Kept(folder)
    module = module or algorithm()
    callbacks = [MetricLogger(), *settings.pop("callbacks", [])]
    trainer = fit(module, GivenItems(items(train), items(validation, 100) if validation else ()), logger=logger,
                  callbacks=callbacks, **{"log_every_n_steps": 2} | settings)
    return trainer, logger.calls, module


def test_one_call_a_window_with_the_global_step_and_the_rest_at_the_end(tmp_path):
    _, calls, _ = run(tmp_path, validation=0)
    assert [step for step, _ in calls] == [2, 4, 5]


def test_values_are_means_over_the_window(tmp_path):
    _, calls, _ = run(tmp_path, algorithm(optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0)), validation=0)
    policy, reference = Bigram(), FrozenBigram()
    batch = [preferences(seed) for seed in (0, 1)]
    logps = [policy.token_logps(b.sequences).values for b in batch]
    rows = [values.split(b.sequences.completion_lengths.tolist()) for values, b in zip(logps, batch, strict=True)]
    parts = [torch.stack([row.sum() for row in own]) for own in rows]
    losses = [
        -torch.nn.functional.logsigmoid(sums[b.chosen] - sums[b.rejected]).mean()
        for sums, b in zip(parts, batch, strict=True)
    ]
    first = calls[0][1]
    assert first["train/loss"] == pytest.approx(float(sum(losses).detach()) / 2, rel=1e-5)
    tokens = [len(b.sequences.completion_ids) + len(b.sequences.prompt_ids) for b in batch]
    assert first["train/tokens"] == pytest.approx(sum(tokens) / 2)
    chosen = torch.cat([own[c] for own, b in zip(rows, batch, strict=True) for c in b.chosen.tolist()])
    assert first["train/logp/chosen"] == pytest.approx(float(chosen.detach().mean()), rel=1e-5)
    rising = [
        (sums[c] > reference.token_logps(b.sequences).split(b.sequences.completion_lengths.tolist())[c].sum()).item()
        for sums, b in zip(parts, batch, strict=True) for c in b.chosen.tolist()
    ]
    assert first["train/chosen_rising"] == pytest.approx(sum(rising) / len(rising))


def test_shares_of_time_add_up(tmp_path):
    _, calls, _ = run(tmp_path)
    for _, values in calls:
        shares = [value for name, value in values.items() if name.startswith("perf/share_")]
        assert not shares or (sum(shares) == pytest.approx(1.0) and min(shares) >= 0)


def test_validation_is_logged_at_the_global_step_and_not_in_the_sanity_check(tmp_path):
    trainer, calls, _ = run(tmp_path, num_sanity_val_steps=1, max_epochs=2)
    validations = [(step, values) for step, values in calls if any(name.startswith("val/") for name in values)]
    assert [step for step, _ in validations] == [5, 10]
    assert trainer.callback_metrics["val/loss"] == pytest.approx(validations[-1][1]["val/loss"])
    assert trainer.progress_bar_metrics["val/loss"] == pytest.approx(validations[-1][1]["val/loss"])


def test_validation_loss_is_the_weighted_mean_over_uneven_batches(tmp_path):
    module = algorithm(optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0))
    data = [preferences(100, prompts=7), preferences(101, prompts=2)]
    trainer = fit(module, GivenItems(items(1), [(b,) for b in data]), callbacks=[MetricLogger()])
    total = pairs = 0.0
    for batch in data:
        output = Pairwise()(module.evidence(batch), batch)
        total, pairs = total + float(output.terms[0].total), pairs + len(batch.chosen)
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(total / pairs, rel=1e-5)


def test_terms_of_a_sum_are_logged_apart_and_add_up(tmp_path):
    _, calls, _ = run(tmp_path, algorithm(Pairwise() + 0.5 * Pairwise(tau=0.1)))
    for _, values in calls:
        for stage in ("train", "val"):
            parts = [value for name, value in values.items() if name.startswith(f"{stage}/loss/")]
            if f"{stage}/loss" in values:
                assert len(parts) == 2 and sum(parts) == pytest.approx(values[f"{stage}/loss"], rel=1e-5)


@pytest.mark.parametrize("loss", [Pairwise(), Pairwise() + 0.5 * Pairwise(tau=0.1)], ids=["one", "sum"])
def test_the_names_known_before_the_run_are_those_of_the_run(tmp_path, loss):
    _, calls, module = run(tmp_path, algorithm(loss))
    emitted = {name for _, values in calls for name in values}
    known = known_names(module)
    assert emitted <= known
    assert known - emitted <= {"train/learning_rate/actor", "val/distribution", "val/sampled_length"}


def test_a_wrong_monitor_is_refused_with_the_nearest_name(tmp_path):
    module = algorithm()
    built = []
    module.configure_model = lambda: built.append(True)
    with pytest.raises(InputError, match=r"EarlyStopping.monitor: 'val/los' .*'val/loss'"):
        run(tmp_path, module, callbacks=[EarlyStopping("val/los")])
    assert not built


@dataclass(frozen=True)
class Demanding(Pairwise):
    """Wants more sequences than it is asked with before the run."""

    def __call__(self, evidence, batch):
        if len(batch.sequences.completion_lengths) < 5:
            raise ValueError("too few")
        return super().__call__(evidence, batch)


def test_a_head_that_cannot_be_asked_beforehand_can_be_watched(tmp_path):
    module = Algorithm(Bigram(), Demanding(), FrozenBigram())
    data = GivenItems([(preferences(0),)], [(preferences(1),)])
    trainer = fit(module, data, callbacks=[MetricLogger(), EarlyStopping("val/accuracy", mode="max")])
    assert "val/accuracy" in trainer.callback_metrics


def test_early_stopping_sees_the_metrics(tmp_path):
    trainer, _, _ = run(tmp_path, algorithm(optimizer=lambda groups: torch.optim.SGD(groups, lr=0.0)), max_epochs=9,
                        callbacks=[EarlyStopping("val/loss", patience=2)])
    assert trainer.current_epoch == 3


class Longest(Metric):
    """A user's own metric."""

    def __init__(self):
        super().__init__()
        self.add_state("most", torch.tensor(0), dist_reduce_fx="max")

    def update(self, evidence, batch):
        self.most = torch.maximum(self.most, batch.sequences.completion_lengths.max())

    def compute(self):
        return {"tokens": self.most}


def test_the_users_own_metric(tmp_path):
    stopping = EarlyStopping("val/longest/tokens", mode="max")
    trainer, _, _ = run(tmp_path, algorithm(metrics=[Longest()]), callbacks=[stopping])
    expected = max(int(part.sequences.completion_lengths.max()) for item in items(2, 100) for part in item)
    assert trainer.callback_metrics["val/longest/tokens"] == expected


def test_tensorboard_gets_scalars_histograms_and_pages(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.yaml").write_text("data: {batch_size: 3}\nmodel: {loss: {tau: 0.5, nothing: null}}\n")
    logger = TensorBoardLogger(tmp_path, name="x", version="")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        data = GivenItems(items(3), items(1, 100))
        fit(algorithm(), data, logger=logger, callbacks=[MetricLogger()], log_every_n_steps=2)
    logger.experiment.flush()
    events = EventAccumulator(str(tmp_path / "x")).Reload()
    tags = events.Tags()
    assert {"train/loss", "val/loss"} <= set(tags["scalars"])
    assert {"val/distribution/length", "val/distribution/margin"} <= set(tags["histograms"])
    assert "run/config/text_summary" in tags["tensors"]
    assert [event.step for event in events.Scalars("train/loss")] == [2, 3]
    assert f"tensorboard --logdir {tmp_path}" in capsys.readouterr().out


def test_points_after_the_checkpoint_are_forgotten(tmp_path):
    class Resumed(Callback):
        def on_fit_start(self, trainer, module):
            trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed = 2

    for callbacks in ([MetricLogger()], [Resumed(), MetricLogger()]):
        logger = TensorBoardLogger(tmp_path, name="x", version="")
        fit(algorithm(), GivenItems(items(4)), logger=logger, callbacks=callbacks, log_every_n_steps=1)
        logger.finalize("success")
    steps = [event.step for event in EventAccumulator(str(tmp_path / "x")).Reload().Scalars("train/loss")]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_validate_prints_the_metrics(tmp_path, capsys):
    from lightning import Trainer

    trainer = Trainer(logger=False, accelerator="cpu", callbacks=[MetricLogger()], enable_progress_bar=False,
                      enable_model_summary=False, enable_checkpointing=False)
    trainer.validate(algorithm(), GivenItems([], items(2, 100)), verbose=False)
    assert "val/preference_accuracy" in capsys.readouterr().out
    assert math.isfinite(trainer.callback_metrics["val/loss"])
