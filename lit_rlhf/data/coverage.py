"""What a pair graph connects: between which responses a difference of rewards is known at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from lit_rlhf.data.records import Group


@dataclass(frozen=True)
class PairGraph:
    """The pairs of a data set: nodes are the distinct responses of its prompts, edges join the ends of pairs.

    The same prompt, or the same response of a prompt, counts once, in whichever rows it stands.
    """

    prompt_of: np.ndarray
    """[n] the prompt 0, 1, ... of each response."""
    ends: np.ndarray
    """[E, 2] chosen and rejected response of each pair."""
    probability: np.ndarray
    """[E] that chosen is preferred."""
    prompts: int
    rows: int = 0
    """Of how many rows this is."""

    @staticmethod
    def of(groups: Iterable[Group], most: int | None = None) -> PairGraph:
        """The graph of groups, or of the first `most`."""
        nodes, rows, pairs = Nodes(), 0, []
        for group in itertools.islice(groups, most):
            rows += 1
            own = nodes.of(group)
            pairs += [(own[pair.chosen], own[pair.rejected], pair.probability) for pair in group.pairs]
        columns = np.array(pairs, dtype=np.float64).reshape(-1, 3)
        prompt_of = np.array([prompt for prompt, _ in nodes.responses], dtype=np.int64)
        return PairGraph(prompt_of, columns[:, :2].astype(np.int64), columns[:, 2], len(nodes.prompts), rows)

    def components(self, arcs: np.ndarray | None = None) -> np.ndarray:
        """[n] the connected component of each response; with arcs [A, 2], the strongly connected one by those."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        directed = arcs is not None
        ends, n = arcs if directed else self.ends, len(self.prompt_of)
        graph = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(n, n))
        return connected_components(graph, directed=directed, connection="strong")[1]

    def parts(self, component: np.ndarray) -> np.ndarray:
        """[prompts] how many components the responses of each prompt fall into."""
        first = np.unique(component, return_index=True)[1]  # a component lies within one prompt
        return np.bincount(self.prompt_of[first], minlength=self.prompts)


class Nodes:
    """Numbers of prompts and of their responses, in the order in which they are first seen."""

    def __init__(self) -> None:
        self.prompts: dict[bytes, int] = {}
        self.responses: dict[tuple[int, bytes], int] = {}

    def of(self, group: Group) -> list[int]:
        """The numbers of a group's completions."""
        prompt = self.prompts.setdefault(_key(group.prompt_ids), len(self.prompts))
        return [self.responses.setdefault((prompt, _key(ids)), len(self.responses)) for ids in group.completions]


@dataclass(frozen=True)
class Coverage:
    """How far the pairs of a data set connect the responses of each prompt.

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


def coverage(graph: PairGraph) -> Coverage:
    """The coverage of a graph; nothing where there is no response."""
    responses = len(graph.prompt_of)
    if not responses:
        return Coverage(0, 0, 0, 0, 0)
    parts = graph.parts(graph.components())
    return Coverage(graph.prompts, responses, len(graph.ends), int(parts.sum()), int((parts == 1).sum()), graph.rows)


def _key(ids: np.ndarray) -> bytes:
    return np.asarray(ids, dtype=np.int32).tobytes()
