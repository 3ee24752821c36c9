"""What a run came to, in a few lines, with the warnings that its curves deserve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rlhf.callbacks.files import run_directory

Curves = Mapping[str, Sequence[float]]
"""Values of each metric in the order they were logged."""

FALLEN = 0.1
"""Nats per token by which chosen completions may become less likely."""
ATTAINED = 0.1
"""Root mean square of the residual, in nats, below which the policy is where its soft labels want it."""
GROWN = 1.5
"""Factor by which sampled completions may become longer."""
SATURATED = 5.0
"""A margin in nats beyond which the preferred end wins with probability above 0.993."""


def chosen_falls(curves: Curves) -> str | None:
    """Warns where chosen completions lost over `FALLEN` nats per token, against the reference or since the start.

    Not where the policy is at the target of soft labels: there the fall is what they ask for.
    """
    change = curves.get("train/logp_change/chosen", ())
    logps = curves.get("train/logp/chosen", ())
    fall = -change[-1] if change else logps[0] - logps[-1] if len(logps) > 1 else 0.0
    residual = curves.get("udrra/residual_rms", ())
    if fall <= FALLEN or (residual and residual[-1] < ATTAINED):
        return None
    return (
        f"the chosen completions are {fall:.2f} nats per token less likely than at the start: the margin grows because "
        "the rejected ones fall faster. Raise tau, lower the learning rate, or add a likelihood term (NLL) to the loss"
    )


def length_grows(curves: Curves) -> str | None:
    """Warns where sampled completions are more than `GROWN` times as long as the first ones were."""
    lengths = curves.get("val/sampled_length", ())
    if len(lengths) < 2 or lengths[-1] <= GROWN * lengths[0]:
        return None
    return (
        f"sampled completions grew from {lengths[0]:.0f} to {lengths[-1]:.0f} tokens: length may stand in for quality. "
        "Compare length/chosen with length/rejected; a length-normalised loss does not reward it"
    )


def margin_is_unbounded(curves: Curves) -> str | None:
    """Warns where the margin is above `SATURATED` and grew in the second half at least half as much as in the first."""
    margins = curves.get("train/rewards/margin", ())
    if len(margins) < 4 or margins[-1] <= SATURATED:
        return None
    middle = margins[len(margins) // 2]
    if margins[-1] - middle < (middle - margins[0]) / 2:
        return None
    return (
        f"the margin is {margins[-1]:.1f} nats and still grows: nothing in the labels bounds it. Use soft labels, "
        "label smoothing or a link with a finite optimum (squared), or stop earlier"
    )


RULES = (chosen_falls, length_grows, margin_is_unbounded)
SHOWN = (
    "train/loss", "train/accuracy", "train/rewards/margin", "train/logp_change/chosen", "reward/total", "rollout/length", "val/loss",
    "val/reward", "val/kl", "val/length", "val/pass@1", "val/preference_accuracy", "val/perplexity", "val/sampled_length", "udrra/residual_rms",
)
FOLLOWED = frozenset({*SHOWN, "train/logp/chosen"})
MOST_POINTS = 512


class RunSummary(Callback):
    """Prints, when training ends, where the metrics stood first and last, the warnings, and where everything is.

    Args:
        run_dir: the directory of the run; the logger's when None.
    """

    def __init__(self, run_dir: str | Path | None = None) -> None:
        self.run_dir = run_dir
        self.curves: dict[str, list[float]] = {}

    def state_dict(self) -> dict[str, dict[str, list[float]]]:
        return {"curves": self.curves}

    def load_state_dict(self, state_dict: dict[str, dict[str, list[float]]]) -> None:
        self.curves = state_dict["curves"]

    def on_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Adds a point to the curves; a long one is thinned, its first and last point kept."""
        for name in FOLLOWED & values.keys():
            curve = self.curves.setdefault(name, [])
            curve.append(values[name])
            if len(curve) > MOST_POINTS:
                self.curves[name] = curve[:-1:2] + curve[-1:]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and self.curves:
            reference = getattr(pl_module, "reference", None)
            told = [f"  reference: {said}"] if reference is not None and (said := reference.told()) else []
            print("\n".join(self.lines(trainer.global_step, run_directory(self.run_dir, trainer)) + told))

    def lines(self, steps: int, folder: Path) -> list[str]:
        """The summary after so many updates of a run that wrote to this folder."""
        shown = [name for name in SHOWN if self.curves.get(name)]
        width = max(map(len, shown), default=0)
        rows = [f"  {name:<{width}}  {self.curves[name][0]:>9.4f} -> {self.curves[name][-1]:>9.4f}" for name in shown]
        warnings = [f"  warning: {text}" for rule in RULES if (text := rule(self.curves))]
        return [f"{steps} updates; checkpoints, metrics and samples are in {folder}", *rows, *warnings]
