"""What watches a run: checkpoints, metrics, sample tables, start-up checks, progress, summary, predictions."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback

from lit_rlhf.callbacks.checkpointing import RunCheckpoint
from lit_rlhf.callbacks.logging import MetricLogger
from lit_rlhf.callbacks.opening import Opening
from lit_rlhf.callbacks.pair_weights import PairWeights
from lit_rlhf.callbacks.predictions import PredictionWriter
from lit_rlhf.callbacks.progress import ProgressBar
from lit_rlhf.callbacks.run_record import RunRecord
from lit_rlhf.callbacks.startup import StartupChecks
from lit_rlhf.callbacks.summary import RunSummary
from lit_rlhf.callbacks.tables import SampleTable

__all__ = [
    "MetricLogger", "Opening", "PairWeights", "PredictionWriter", "ProgressBar", "RunCheckpoint", "RunRecord", "RunSummary",
    "SampleTable", "StartupChecks", "default_callbacks",
]


def default_callbacks(run_dir: Path, progress_bar: bool = True, monitor: str = "val/loss") -> list[Callback]:
    """What the command line gives every run; one of a class that the user configures takes the place of the default.

    Args:
        run_dir: where checkpoints, samples, predictions and records go.
        progress_bar: False where the trainer is configured without one, which Lightning insists on.
        monitor: the metric by which the best checkpoint is chosen.
    """
    callbacks: list[Callback] = [
        Opening(), RunRecord(run_dir), StartupChecks(), MetricLogger(), PairWeights(), SampleTable(run_dir),
        RunSummary(run_dir), PredictionWriter(run_dir), RunCheckpoint(Path(run_dir) / "checkpoints", monitor),
    ]
    return [*callbacks, ProgressBar()] if progress_bar else callbacks
