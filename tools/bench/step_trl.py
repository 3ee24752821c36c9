"""One measuring process of TRL: `step_trl.py FOLDER OUT VARIANT`. Its Trainer, its defaults, in fp32 on the CPU."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from datasets import Dataset
from measured import Clock, peak_mib
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer
from words import as_text
from workload import LEARNING_RATE, PAIRS_PER_STEP, TAU, Workload

TUNED = {"gradient_checkpointing": False, "logging_steps": 1000}
VARIANTS = {
    "trl": {},
    "trl_tuned": TUNED,
    "trl_precomputed": {"precompute_ref_log_probs": True, **TUNED},
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


class Watch(TrainerCallback):
    """The time at the end of every optimizer step."""

    def __init__(self) -> None:
        self.clock = Clock()

    def on_step_end(self, *args: object, **kwargs: object) -> None:
        self.clock.mark()


def rows_of(workload: Workload, end: int) -> Dataset:
    """Text that the tokenizer reads back to the ids of the workload; TRL appends the terminator."""
    texts = [[as_text(ids, end) for ids in row] for row in workload.rows]
    return Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in texts])


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
    watch = Watch()
    trainer = DPOTrainer(
        model=str(folder), args=arguments, train_dataset=rows_of(workload, tokenizer.eos_token_id),
        processing_class=tokenizer, callbacks=[watch],
    )  # fmt: skip
    check_ids(trainer, workload)
    losses, norms = record(trainer)
    trainer.train()
    watch.clock.run(losses, norms, workload.warmup, base).save(out)


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
