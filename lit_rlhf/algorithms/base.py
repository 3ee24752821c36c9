"""The off-line regime: one item of the train loader is one optimizer step.

A head returns sums; `update` divides each by the count of its unit over all micro-batches of the step on all ranks, so
micro-batching and the number of devices never change the mathematics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from lit_rlhf.algorithms.composition import refuse_impossible, refuse_strangers
from lit_rlhf.ranks import sum_over_ranks, world_size
from lit_rlhf.algorithms.recording import Recorder, named
from lit_rlhf.algorithms.resuming import apply_changes, settings_of
from lit_rlhf.algorithms.schedules import Schedule
from lit_rlhf.algorithms.statistics import StepStatistics
from lit_rlhf.algorithms.validation import Predictions, default_metrics, predictions
from lit_rlhf.algorithms.watching import watched
from lit_rlhf.components.actor import Actor
from lit_rlhf.components.critic import Critic, SharedCritic
from lit_rlhf.components.learned import Learned
from lit_rlhf.components.reference import Reference
from lit_rlhf.errors import InputError
from lit_rlhf.losses.base import LossHead
from lit_rlhf.losses.base import Metric as LossMetric
from lit_rlhf.types import Batch, Evidence, Observation, Sequences, TokenLogps, Unit

MicroBatches = Sequence[Batch]


@dataclasses.dataclass(frozen=True)
class Strand:
    """Micro-batches with a head of their own in the same optimizer step: their sums are divided by their own counts."""

    loss: LossHead
    micro_batches: MicroBatches


PRECISIONS = ("32-true", "bf16-mixed")
"""Values of `trainer.precision`."""


class Algorithm(LightningModule):
    """Minimises sum_terms total / count over the data, term by term as the head gives them.

    Args:
        actor: the policy in training.
        loss: the head, or a sum of heads.
        reference: the base measure u of the posterior form; None is the prior form.
        critic: gives `Evidence.values`.
        optimizer: called with one parameter group per part; AdamW with learning rate 1e-5 when None.
        schedule: constant when None.
        max_grad_norm: the gradient is clipped to this 2-norm; None does not clip.
        learned: components that reach the head through the evidence (a learned temperature or log-partition).
        metrics: torchmetrics metrics with `update(evidence, batch)`, computed on validation data; those that suit what
            the head reads when None.
        on_nonfinite: `stop` ends the run naming the rows of the step, `skip` leaves the step out and counts it.

    Raises:
        InputError: the head needs a part that is not given.
    """

    trains: ClassVar[str] = "actor"
    """The name of the first trained part: its attribute, its prefix in checkpoints, its folder in the run directory."""
    samples: ClassVar[bool] = False
    """Whether it trains on completions that it samples itself."""
    monitored: ClassVar[str] = "val/loss"
    """The metric of validation by which the best checkpoint is chosen unless another is named."""

    def __init__(
        self,
        actor: Actor,
        loss: LossHead,
        reference: Reference | None = None,
        critic: Critic | SharedCritic | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: Schedule | None = None,
        max_grad_norm: float | None = 1.0,
        learned: Sequence[Learned] = (),
        metrics: Sequence[Metric] | None = None,
        on_nonfinite: Literal["stop", "skip"] = "stop",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        setattr(self, self.trains, actor)
        self.critic, self.learned = critic, nn.ModuleList(learned)
        self.loss, self.schedule, self.max_grad_norm, self.on_nonfinite = loss, schedule, max_grad_norm, on_nonfinite
        self.optimizer = optimizer or (lambda groups: torch.optim.AdamW(groups, lr=1e-5, weight_decay=0.0))
        self._held = (reference,)  # a tuple hides it from nn.Module: no frozen weight in checkpoints and optimizers
        chosen = default_metrics(loss) if metrics is None and not self.samples else metrics
        self.metrics = nn.ModuleList(chosen or ())
        self.recorder, self.val_recorder = Recorder(), Recorder()
        self.statistics = StepStatistics(loss.observes)
        self.items_done, self._built = 0, False
        self.enter: Callable[[str], Any] = _nowhere
        self._stops: tuple[int, ...] = ()
        self._settings: dict[str, Any] = {}
        self._resumed: dict[str, Any] | None = None
        refuse_impossible(self)

    @property
    def reference(self) -> Reference | None:
        """The reference, or None in the prior form."""
        return self._held[0]

    @property
    def parts(self) -> tuple[tuple[str, nn.Module], ...]:
        """Name and component of what is trained, in the order of the optimizer's parameter groups."""
        own = ((self.trains, getattr(self, self.trains)), ("critic", self.critic))
        learned = ((f"learned.{index}", part) for index, part in enumerate(self.learned))
        return tuple((name, part) for name, part in (*own, *learned) if part is not None)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the first trained part."""
        return self.parts[0][1].tokenizer

    @property
    def needs(self) -> frozenset[str]:
        """What the head reads of evidence and batch; the data module chooses the kind of batch by it."""
        return self.loss.needs

    def check(self, data: LightningDataModule) -> None:
        """Builds the data for this composition without reading any weight.

        Raises:
            InputError: the data are wrong, or do not have what the head needs.
        """
        refuse_strangers(self)
        data.attach(self)
        data.setup("fit")

    # ---- models

    def configure_model(self) -> None:
        """Loads the weights, once: nothing is read or allocated before, and a second fit or a validation keeps the reference.

        Models are told which tokens end a completion by the template that wrote the data, and are saved with them.
        """
        if self._built:
            return
        refuse_strangers(self)
        for _, part in self.parts:
            if isinstance(part, SharedCritic):
                part.attach(self.actor)
            part.build()
            if hasattr(part, "model"):
                part.model.stop_at(self._stops)
        if self.reference is not None:
            self.reference.build(self.actor)
        self._built = True

    def configure_optimizers(self) -> Any:
        groups = []
        for name, part in self.parts:
            weights = [weight for weight in part.parameters() if weight.requires_grad]
            if not weights:
                raise InputError(f"model.{name}: none of its weights is trained; leave the part out, or let some be")
            groups.append({"params": weights, "name": name} | ({} if part.lr is None else {"lr": part.lr}))
        optimizer = self.optimizer(groups)
        self._settings = settings_of(optimizer)
        if self.schedule is None:
            return optimizer
        planned = self.planned_updates()
        scheduler = self.schedule.build(optimizer, int(planned) if 0 < planned < math.inf else None)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def planned_updates(self) -> float:
        """Optimizer steps of the whole run; infinity where nothing limits it."""
        return self.trainer.estimated_stepping_batches

    def evidence(self, batch: Batch) -> Evidence:
        """Everything the head may read of the models for one micro-batch."""
        sequences = batch.sequences
        policy, values = self.policy_and_values(sequences)
        return Evidence(
            policy=policy,
            reference=None if self.reference is None else self.reference.token_logps(sequences),
            values=values,
            **{part.fills: part(sequences) for part in self.learned},
        )

    def policy_and_values(self, sequences: Sequences, **asked: Any) -> tuple[TokenLogps, Tensor | None]:
        """Log-probs of the actor and [T] values of the critic, in one pass where they share a trunk."""
        needs = self.loss.needs
        asked = {"entropy": "entropy" in needs, "collision": "collision" in needs} | asked
        if isinstance(self.critic, SharedCritic):
            hidden = self.actor.hidden(sequences)
            return self.actor.token_logps(sequences, hidden=hidden, **asked), self.critic.of(hidden)
        values = None if self.critic is None else self.critic.values(sequences)
        return self.actor.token_logps(sequences, **asked), values

    # ---- one optimizer step

    def training_step(self, item: MicroBatches, index: int) -> None:
        self.update(item)
        self.recorder.add("tokens", sum(_tokens(batch) for batch in item), 1.0 / world_size())
        self.items_done += 1

    def update(self, micro_batches: MicroBatches, *others: Strand) -> tuple[LossMetric, ...]:
        """One optimizer step on all micro-batches of all ranks, and on those of the other strands.

        Returns:
            What the head measured on this rank's own micro-batches.
        """
        self.enter("forward_backward")
        optimizer, shares = self.optimizers(), {}
        observed = self._observed(micro_batches, remember=True)
        optimizer.zero_grad()
        for strand in others:
            self._backward(strand, [None] * len(strand.micro_batches), shares, last=False)
        # DDP's exchange of gradients waits for every trained weight, and other strands may leave out some, as a critic's.
        measured = self._backward(Strand(self.loss, micro_batches), observed, shares, last=True)
        if self._step(optimizer):
            self._record_loss(shares)
        return measured

    def _backward(
        self, strand: Strand, observed: Sequence[Any], shares: dict[str, Tensor], last: bool
    ) -> tuple[LossMetric, ...]:
        """Adds the gradient of a strand to the weights' and its terms to `shares`."""
        counts, metrics = self._counts(strand.micro_batches), []
        for index, (batch, seen) in enumerate(zip(strand.micro_batches, observed, strict=True)):
            with self._synchronised(last and index == len(strand.micro_batches) - 1):
                evidence = dataclasses.replace(self.evidence(batch), observed=seen)
                output = strand.loss(evidence, batch)
                terms = {name: term.total / counts[term.unit] for name, term in named(output.terms)}
                self.manual_backward(sum(terms.values()) * world_size())  # strategies average over ranks
            for name, value in terms.items():
                shares[name] = shares.get(name, 0.0) + value.detach()
            found = (*output.metrics, *self.watch(evidence, batch))
            self.recorder.add_metrics(found)
            metrics += found
        return tuple(metrics)

    def watch(self, evidence: Evidence, batch: Batch) -> tuple[LossMetric, ...]:
        """What is measured of every micro-batch whatever the head."""
        return watched(evidence, batch)

    def _counts(self, micro_batches: MicroBatches) -> dict[Unit, Tensor]:
        """The sum of weights of every unit over the step, on all ranks; 1 where it is 0."""
        units = micro_batches[0].units
        sums = torch.stack([sum(batch.count(unit).float() for batch in micro_batches) for unit in units])
        totals = sum_over_ranks(sums)
        return dict(zip(units, torch.where(totals > 0, totals, 1.0), strict=True))

    @torch.no_grad()
    def _observed(self, micro_batches: MicroBatches, remember: bool) -> Sequence[tuple[Observation, ...] | None]:
        """What the head wants to know of the whole step before any gradient."""
        if not self.loss.observes:
            return [None] * len(micro_batches)
        return self.statistics.gather([self.loss.observe(self.evidence(batch), batch) for batch in micro_batches], remember)

    @contextlib.contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        """Gradients cross ranks with the last micro-batch only, under DDP and under FSDP2."""
        for module in self.modules():
            if hasattr(module, "set_requires_gradient_sync"):  # FSDP2 changes the class of what it shards
                module.set_requires_gradient_sync(last)
        strategy = self.trainer.strategy
        blocked = not last and hasattr(strategy, "block_backward_sync")
        with strategy.block_backward_sync() if blocked else contextlib.nullcontext():
            yield

    def _step(self, optimizer: Any) -> bool:
        """Clips and steps; False where the gradient is not finite and the step is left out."""
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(weights, math.inf if self.max_grad_norm is None else self.max_grad_norm)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        finite = bool(torch.isfinite(norm))
        self.recorder.add("skipped_steps", float(not finite), 1.0)
        if not finite and self.on_nonfinite == "stop":
            raise FloatingPointError(self._nonfinite_message(float(norm)))
        if finite:
            optimizer.step()
            self.recorder.add("grad_norm", norm)
            if self.reference is not None:
                self.reference.after_update(self.actor, self.trainer.global_step)
        if self.schedule is not None:
            self.lr_schedulers().step()
        return finite

    def _nonfinite_message(self, norm: float) -> str:
        rows = ", ".join(self.trainer.datamodule.rows(self.items_done)) if self.trainer.datamodule else "unknown"
        return (
            f"the gradient norm of update {self.trainer.global_step + 1} is {norm}; the rows of the step are {rows}. "
            "Lower the learning rate, look at these rows, or set model.on_nonfinite=skip to leave such steps out and count them"
        )

    def _record_loss(self, shares: dict[str, Tensor]) -> None:
        steps = 1.0 / world_size()  # every rank adds its share of the loss, and together they add one step
        self.recorder.add("loss", sum(shares.values()), steps)
        if len(shares) > 1:
            for name, share in shares.items():
                self.recorder.add(f"loss/{name}", share, steps)

    # ---- validation, test, prediction

    def validation_step(self, item: MicroBatches, index: int) -> None:
        """Sums of the terms and updates of the metrics; whoever logs asks `val_recorder` and `metrics` at the end."""
        observed = self._observed(item, remember=False)
        for batch, seen in zip(item, observed, strict=True):
            evidence = dataclasses.replace(self.evidence(batch), observed=seen)
            output = self.loss(evidence, batch)
            for name, term in named(output.terms):
                self.val_recorder.add(f"loss/{name}", term.total, batch.count(term.unit))
            self.val_recorder.add_metrics(output.metrics, self.watch(evidence, batch))
            for metric in self.metrics if bool(batch.sequence_weight.any()) else ():  # repeats that keep ranks in step weigh 0
                metric.update(evidence, batch)

    test_step = validation_step

    def predict_step(self, item: MicroBatches, index: int) -> tuple[Predictions, ...]:
        """Log-probabilities and scores of every sequence, one container per micro-batch."""
        return tuple(predictions(self.evidence(batch), batch) for batch in item)

    # ---- hooks of Lightning

    def setup(self, stage: str) -> None:
        if self.trainer.precision not in PRECISIONS:
            raise InputError(
                f"trainer.precision: {self.trainer.precision}, expected {' or '.join(PRECISIONS)}: float16 needs a scaled "
                "loss, which exact counts rule out, and what is trained is kept in float32"
            )
        self._stops = getattr(getattr(self.trainer.datamodule, "stop_set", None), "ids", ())

    def on_fit_start(self) -> None:
        if self.reference is not None:
            self.reference.to(self.device)

    on_validation_start = on_test_start = on_predict_start = on_fit_start

    def on_train_start(self) -> None:
        if self._resumed is not None:
            schedulers = [config.scheduler for config in self.trainer.lr_scheduler_configs]
            apply_changes(self.optimizers().optimizer, schedulers, self._resumed, self._settings)
            self._resumed = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["algorithm"] = {
            "items_done": self.items_done,
            "optimizer": self._settings,
            "statistics": self.statistics.state_dict(),
            "reference": None if self.reference is None else self.reference.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint.get("algorithm")
        if state is None:
            raise InputError("ckpt_path: the file is no checkpoint of a run; name a RUN, or last.ckpt in its folder checkpoints/")
        self.items_done, self._resumed = state["items_done"], state.get("optimizer") or None
        self.statistics.load_state_dict(state["statistics"])
        if self.reference is not None:
            self.reference.load_state_dict(state["reference"])


def _tokens(batch: Batch) -> Tensor | int:
    """Of prompts and completions; none of a repeat that only keeps ranks in step: it weighs nothing."""
    tokens, weight = len(batch.sequences.prompt_ids) + len(batch.sequences.completion_ids), batch.sequences.weight
    return tokens if weight is None else tokens * weight.any()


def _nowhere(phase: str) -> None:
    """Where nobody measures the time of phases."""
