"""Which metric names a run will have, asked before any weight is read."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lit_rlhf.algorithms.composition import SAMPLED, available_fields
from lit_rlhf.algorithms.gauge import obstacle
from lit_rlhf.algorithms.metrics import metric_name
from lit_rlhf.algorithms.recording import logged_as, named
from lit_rlhf.components.soft_q import SoftStates
from lit_rlhf.credit.base import credited
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import LossOutput
from lit_rlhf.types import (
    Batch,
    Evidence,
    PreferenceBatch,
    Rollout,
    ScoredBatch,
    Sequences,
    TokenLogps,
)

TRAINING = (
    "train/loss", "train/grad_norm", "train/skipped_steps", "train/learning_rate", "train/tokens", "train/epoch",
)
PERFORMANCE = (
    "perf/tokens_per_second", "perf/seconds_per_update", "perf/share_data", "perf/share_forward_backward",
    "perf/share_optimizer", "perf/share_logging", "perf/share_checkpoint", "perf/share_validation",
)


ROLLOUT = (
    "rollout/length", "rollout/finished", "rollout/entropy_estimate", "rollout/zero_variance_groups", "rollout/advantage",
    "rollout/advantage_std", "rollout/return", "rollout/value", "rollout/updates", "rollout/stopped_early",
    "rollout/first_ratio_error", "rollout/resampled_groups", "rollout/staleness", "rollout/replayed", "rollout/tokens",
    "reward/total", "reward/total_std", "reward/skipped",
)
GAUGE = ("udrra/kl_to_target", "udrra/kl_to_target_exponential", "udrra/effective_samples", "udrra/unreliable")
SAMPLING = ("perf/share_generate", "perf/share_score", "perf/share_other", "perf/sampled_per_second")


def probe(module: Any) -> LossOutput:
    """What the head returns for two prompts with two completions each and made-up numbers: no model is asked."""
    sequences = made_up_sequences()
    tokens = -torch.arange(1.0, 7.0) / 7
    made_up = {
        "policy": TokenLogps(tokens, -tokens, tokens), "reference": tokens - 0.1, "score": tokens[:4], "values": tokens,
        "log_partition": tokens[:2], "tau": torch.tensor(1.0), "soft_q": _soft_states(len(tokens)),
    }
    evidence = Evidence(**{field: made_up[field] for field in available_fields(module)})
    batch = _batch(module, sequences)
    with torch.no_grad():
        output = module.loss(evidence, batch)
    return dataclasses.replace(output, metrics=(*output.metrics, *module.watch(evidence, batch)))


def _soft_states(tokens: int) -> SoftStates:
    """Of a vocabulary of two."""
    every = torch.zeros(tokens, 2)
    law, zero = lambda rows: every[rows].log_softmax(-1), lambda rows: every[rows]
    return SoftStates(2, policy=law, critic=zero, target=zero, taken=lambda ids: every.T, base=law)


def _batch(module: Any, sequences: Sequences) -> Batch:
    needs, reward = module.loss.needs, torch.tensor([1.0, 0.0, 1.0, 0.0])
    tokens = torch.zeros(len(sequences.completion_ids))
    made = dict.fromkeys(("behaviour", "reference", "values", "advantages", "returns"), tokens)
    drawn = None
    if module.samples or SAMPLED & needs:
        drawn = Rollout(sequences, reward=reward, opponent=reward > 0, finished=reward > 0, **made)
    if {"chosen", "reward_gap"} & needs:
        ends = torch.tensor([0, 2])
        return PreferenceBatch(sequences, ends, ends + 1, torch.tensor([0.9, 0.6]), torch.tensor([2.0, 0.4]), drawn=drawn)
    return drawn or ScoredBatch(sequences, reward)


def known_names(module: Any) -> frozenset[str]:
    """All names under `train/`, `val/` and `perf/` that a run of this composition logs.

    A module that logs further names of its own lists them in an attribute `logged`.
    """
    output = probe(module)
    terms = [f"loss/{name}" for name, _ in named(output.terms)] if len(output.terms) > 1 else []
    head = ["loss", *terms, *(logged_as(metric.name) for metric in output.metrics)]
    if getattr(module, "samples", False):
        return frozenset({*TRAINING, *PERFORMANCE, *SAMPLING, *rates_of(module), *(f"train/{name}" for name in head), *sampled_names(module)})
    own = [metric_name(metric) for metric in module.metrics]
    both = [f"{stage}/{name}" for stage in ("train", "val") for name in head]
    sampled = ["val/sampled_length"] if getattr(module, "trains", "actor") == "actor" else []
    logged = getattr(module, "logged", ())
    return frozenset({
        *TRAINING, *PERFORMANCE, *sampled, *rates_of(module), *both, *(staged("val", name) for name in own), *logged,
    })


def rates_of(module: Any) -> list[str]:
    """Where parts have learning rates of their own."""
    return [f"train/learning_rate/{name}" for name, _ in module.parts]


def sampled_names(module: Any) -> frozenset[str]:
    """What a run that samples logs of its rollouts, its rewards and its validation."""
    steps = {metric.name for metric in credited(_batch_of_credit(module), copy.deepcopy(module.credit)).metrics}
    ks = [2**power for power in range(module.val_samples.bit_length())] if module.reward.verifiable else []
    divergence = ("kl", "kl_per_token") if module.reference is not None else ()
    validation = {f"val/{name}" for name in ("reward", "length", "finished", "sampled_length", *divergence, *(f"pass@{k}" for k in ks))}
    return frozenset({*ROLLOUT, *steps, *validation, *(GAUGE if not obstacle(module) else ())})


def _batch_of_credit(module: Any) -> Rollout:
    """Two prompts with three finished completions each; every field that a credit step may read is there."""
    ids, lengths = torch.zeros(8, dtype=torch.long), torch.tensor([2, 1, 1, 1, 2, 1])
    sequences = Sequences(ids[:2], torch.ones(2, dtype=torch.long), ids, lengths, torch.arange(2).repeat_interleave(3))
    tokens, last = torch.linspace(0, 1, len(ids)), torch.tensor([False, False, True]).repeat(2)
    return Rollout(
        sequences, -tokens, torch.arange(6.0) % 4, reference=-tokens, values=tokens, finished=~last,
        opponent=None if module.opponent is None else last,
    )


def made_up_sequences() -> Sequences:
    """Two prompts with two completions each."""
    return Sequences(
        torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long), torch.zeros(6, dtype=torch.long),
        torch.tensor([2, 1, 1, 2]), torch.tensor([0, 0, 1, 1]),
    )


def staged(stage: str, name: str) -> str:
    """`<stage>/<name>`; what stands under a heading of its own keeps its name: gauges, and in training rollouts and rewards."""
    own = ("udrra/", "rollout/", "reward/", "perf/") if stage == "train" else ("udrra/",)
    return name if name.startswith(own) else f"{stage}/{name}"


def check_monitors(trainer: Trainer, module: LightningModule) -> None:
    """Every callback that watches a metric watches one that exists.

    Raises:
        InputError: an unknown name, with the nearest known one.
    """
    watched_by = [(callback, getattr(callback, "monitor", None)) for callback in trainer.callbacks]
    asked = [(callback, name) for callback, name in watched_by if name not in (None, "val/loss", *TRAINING)]
    known = known_names(module) if asked and hasattr(module, "loss") and _answers(module) else frozenset()
    for callback, monitor in asked:
        if not known or monitor in known or any(monitor.startswith(f"{name}/") for name in known):
            continue
        near = difflib.get_close_matches(monitor, known, n=1, cutoff=0.0)
        raise InputError(
            f"{type(callback).__name__}.monitor: {monitor!r} is no metric of this run; did you mean {near[0]!r}? "
            f"It has {', '.join(sorted(known))}"
        )


def _answers(module: Any) -> bool:
    """Whether the head can do with made-up numbers; one of a user's own may want more than that."""
    try:
        probe(module)
    except Exception:  # whatever a head of a user says to made-up numbers: its names are then not checked beforehand
        return False
    return True
