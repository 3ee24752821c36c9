"""One measuring process of TRL: `step_trl.py FOLDER OUT VARIANT`. Its Trainer, its defaults, in fp32 on the CPU."""

from __future__ import annotations

import offline  # noqa: F401  (before TRL and datasets are imported)

import sys
import time
import warnings
from pathlib import Path

from datasets import Dataset
from measured import Run, peak_mib
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer
from workload import LEARNING_RATE, PAIRS_PER_STEP, TAU, Workload

VARIANTS = {
    "trl": {},
    "trl_tuned": {"gradient_checkpointing": False, "precompute_ref_log_probs": True, "logging_steps": 1000},
}
# Not a choice of speed: what makes the two sides do the same work, and keeps the disk out of it.
SAME_WORK = {
    "bf16": False,
    "beta": TAU,
    "learning_rate": LEARNING_RATE,
    "per_device_train_batch_size": PAIRS_PER_STEP,
    "train_sampling_strategy": "sequential",
    "max_length": 2048,
    "save_strategy": "no",
    "use_cpu": True,
}


class Clock(TrainerCallback):
    """The time at the end of every optimizer step."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.marks.append(time.perf_counter())


def as_text(ids: list[int], end: int) -> str:
    return "".join(f" w{index}" for index in ids if index != end)


def rows_of(workload: Workload, end: int) -> Dataset:
    """Text that the tokenizer reads back to the ids of the workload; TRL appends the terminator."""
    fields = ("prompt", "chosen", "rejected")
    return Dataset.from_list([dict(zip(fields, (as_text(ids, end) for ids in row), strict=True)) for row in workload.rows])


def check_ids(trainer: DPOTrainer, workload: Workload) -> None:
    """The rows that TRL made of the text are the rows of the workload."""
    columns = (trainer.train_dataset[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    read = [list(row) for row in zip(*columns, strict=True)]
    if read != [list(row) for row in workload.rows]:
        raise SystemExit("TRL tokenised the rows to other ids than those of the workload")


def main(folder: Path, out: Path, variant: str) -> None:
    warnings.simplefilter("ignore")
    workload, base = Workload.load(folder), peak_mib()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    arguments = DPOConfig(output_dir=str(out.parent), max_steps=len(workload.items), **(SAME_WORK | VARIANTS[variant]))
    clock = Clock()
    trainer = DPOTrainer(
        model=str(folder), args=arguments, train_dataset=rows_of(workload, tokenizer.eos_token_id),
        processing_class=tokenizer, callbacks=[clock],
    )  # fmt: skip
    check_ids(trainer, workload)
    losses, norms = record(trainer)
    trainer.train()
    seconds = [after - before for before, after in zip(clock.marks, clock.marks[1:], strict=False)]
    Run(losses, norms, seconds[workload.warmup - 1 :], base, peak_mib()).save(out)


def record(trainer: DPOTrainer) -> tuple[list[float], list[float]]:
    """Lists that fill with the loss and the gradient norm (before clipping) of every step."""
    losses: list[float] = []
    norms: list[float] = []
    step, clip = trainer.training_step, trainer._clip_grad_norm

    def recorded_step(*args: object, **kwargs: object) -> object:
        loss = step(*args, **kwargs)
        losses.append(float(loss))
        return loss

    def recorded_clip(*args: object, **kwargs: object) -> object:
        norm = clip(*args, **kwargs)
        norms.append(float(norm))
        return norm

    trainer.training_step, trainer._clip_grad_norm = recorded_step, recorded_clip
    return losses, norms


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
