"""Options of Lightning's Trainer that are refused, with what to write instead."""

import pytest

from lit_rlhf.config.refusals import refusals


@pytest.mark.parametrize("tree, key, instead", [
    ({"trainer": {"gradient_clip_val": 1.0}}, "trainer.gradient_clip_val", "model.max_grad_norm"),
    ({"trainer": {"gradient_clip_algorithm": "value"}}, "trainer.gradient_clip_algorithm", "model.max_grad_norm"),
    ({"trainer": {"accumulate_grad_batches": 4}}, "trainer.accumulate_grad_batches", "data.micro_batch_tokens"),
    ({"trainer": {"overfit_batches": 0.1}}, "trainer.overfit_batches", "trainer.limit_train_batches"),
    ({"trainer": {"strategy": "fsdp_cpu_offload"}}, "trainer.strategy", "trainer.strategy="),
    ({"trainer": {"strategy": {"class_path": "a.b.FSDPStrategy"}}}, "trainer.strategy", "trainer.strategy="),
    ({"trainer": {"strategy": "FSDPStrategy"}}, "trainer.strategy", "trainer.strategy="),
    ({"trainer": {"strategy": "dpp"}}, "trainer.strategy", "did you mean ddp?"),
    ({"trainer": {"accelerator": "gpux"}}, "trainer.accelerator", "did you mean gpu?"),
    ({"optimizer": {"class_path": "AdamW"}}, "optimizer", "model.optimizer"),
    ({"lr_scheduler": "StepLR"}, "lr_scheduler", "model.schedule"),
])
def test_refused_with_what_to_write(tree, key, instead):
    ((found, sentence),) = refusals(tree)
    assert found == key and instead in sentence


@pytest.mark.parametrize("trainer", [
    {"gradient_clip_val": None, "gradient_clip_algorithm": None, "accumulate_grad_batches": 1, "overfit_batches": 0.0},
    {"strategy": "ddp", "accelerator": "auto"}, {"strategy": "auto", "accelerator": "gpu"},
    {"strategy": "ddp_find_unused_parameters_true"},
    {"strategy": {"class_path": "DDPStrategy"}}, {"strategy": "DDPStrategy", "accelerator": "CPUAccelerator"}, {}, None,
    3,
])
def test_what_does_nothing_or_is_right_passes(trainer):
    assert list(refusals({"trainer": trainer, "model": {}})) == []
