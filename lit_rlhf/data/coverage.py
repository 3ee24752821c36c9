"""What a pair graph connects: between which responses a difference of rewards is known at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lit_rlhf.data.records import Group


@dataclass(frozen=True)
class Coverage:
    """The pair graph of a data set: its nodes are the distinct responses of a prompt, its edges the pairs.

    Rewards are identified up to one constant per connected component: where a prompt has several, pairs say nothing of
    the difference between them.
    """

    prompts: int
    responses: int
    pairs: int
    components: int
    connected: int
    """Prompts whose responses are all connected."""
    rows: int = field(default=0, compare=False)
    """Of how many rows this is."""

    @property
    def responses_per_prompt(self) -> float:
        return self.responses / max(self.prompts, 1)

    @property
    def pairs_per_prompt(self) -> float:
        return self.pairs / max(self.prompts, 1)


def coverage(groups: Iterable[Group], most: int | None = None) -> Coverage:
    """The coverage of groups, or of the first `most`. The same prompt, or response of a prompt, counts once."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    prompts: dict[bytes, int] = {}
    nodes: dict[tuple[int, bytes], int] = {}
    edges: list[tuple[int, int]] = []
    rows = 0
    for group in itertools.islice(groups, most):
        rows += 1
        prompt = prompts.setdefault(_key(group.prompt_ids), len(prompts))
        own = [nodes.setdefault((prompt, _key(ids)), len(nodes)) for ids in group.completions]
        edges += [(own[pair.chosen], own[pair.rejected]) for pair in group.pairs]
    if not nodes:
        return Coverage(0, 0, 0, 0, 0)
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(nodes), len(nodes)))
    count, component = connected_components(graph, directed=False)
    prompt_of = np.array([prompt for prompt, _ in nodes])
    parts = np.bincount(np.unique(np.stack([prompt_of, component]), axis=1)[0], minlength=len(prompts))
    return Coverage(len(prompts), len(nodes), len(ends), int(count), int((parts == 1).sum()), rows)


def _key(ids: np.ndarray) -> bytes:
    return np.asarray(ids, dtype=np.int32).tobytes()
