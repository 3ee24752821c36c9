"""What the data of a composition are like, as far as their files say it at once: nothing is fetched, no row is tokenised."""

from __future__ import annotations

import os
from typing import Any

from lit_rlhf.algorithms.base import Algorithm
from lit_rlhf.data.columns import renamed_columns
from lit_rlhf.data.collation import signal_of
from lit_rlhf.data.formats import detect
from lit_rlhf.data.modules import Files
from lit_rlhf.data.signals import check_signal
from lit_rlhf.data.sources import Source, tables
from lit_rlhf.theory.problem import Labels


def labels_of(algorithm: Algorithm, data: Any) -> Labels:
    """How preferences become labels: as the data module says; those of people's pairs are drawn.

    Raises:
        InputError: the columns of a file do not have what the head reads.
    """
    if not isinstance(data, Files):
        return getattr(data, "labels", None) or "sampled"
    formats = [_format(algorithm, data, source) for source in data.sources["train"] if os.path.isfile(source.path)]
    return data.rules.labels if "scored" in formats else "sampled"


def _format(algorithm: Algorithm, data: Files, source: Source) -> str:
    signal, columns = signal_of(algorithm.needs), data.columns | (source.columns or {})
    read = dict.fromkeys(name for table in tables(source, data.cache_dir, streaming=True) for name in table.columns())
    names = renamed_columns(list(read), columns)
    found = data.format or detect(names, signal == "prompt")
    check_signal(signal, found, names, data.rules.label_above, f"data: {source.path}")
    return found
