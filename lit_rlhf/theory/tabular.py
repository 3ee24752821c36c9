"""Policies that are tables, behind the interface of a language model: a state is one-hot, and its logits are a column.

Whatever is built on a language model (actor, critic, soft critic, reward model, log-partition, reference) becomes a
table by this alone, and its code stays its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_rlhf.components.heads import OutputForm
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.functional.segment import owner
from lit_rlhf.types import Sequences

NEVER = -1e4
"""The logit of a token that begins no response: its probability is exactly 0, and so is its gradient."""


By = Literal["response", "token"]
"""What a table has a logit for: a whole response, or a token after each prefix."""


class Tree:
    """The prefixes of n responses, none of which begins another.

    States are prefixes that go on (the empty one is state 0), and after them the n finished responses.

    Args:
        responses: token ids of each.

    Raises:
        ValueError: a response is empty, or begins another one.
    """

    def __init__(self, responses: Sequence[Sequence[int]]) -> None:
        self.responses = tuple(tuple(ids) for ids in responses)
        prefixes = dict.fromkeys(ids[:end] for ids in self.responses for end in range(len(ids)))
        ordered = [(), *(prefix for prefix in prefixes if prefix)]
        state = {prefix: place for place, prefix in enumerate(ordered)}
        self.inner = len(ordered)
        twice = len({*self.responses}) < len(self.responses)
        if twice or () in self.responses or any(ids in state for ids in self.responses):
            raise ValueError("responses are different, have a token at least, and none begins another")
        state |= {ids: self.inner + place for place, ids in enumerate(self.responses)}
        self.vocabulary = 1 + max(max(ids) for ids in self.responses)
        self.lengths = torch.tensor([len(ids) for ids in self.responses])
        self.following = torch.full((len(state), self.vocabulary), -1)
        for ids in self.responses:
            for end, token in enumerate(ids):
                self.following[state[ids[:end]], token] = state[ids[: end + 1]]
        self.ids = torch.tensor([token for ids in self.responses for token in ids])
        self.states = torch.tensor([state[ids[:end]] for ids in self.responses for end in range(len(ids))])
        self.below = self._below(state)
        self._walk: tuple[Sequences, tuple[Tensor, Tensor]] | None = None

    @property
    def n(self) -> int:
        """Responses."""
        return len(self.responses)

    @property
    def width(self) -> int:
        """States, finished responses among them."""
        return len(self.following)

    def _below(self, state: dict[tuple[int, ...], int]) -> Tensor:
        """[width, V, n] bool: whether a response goes on with this token from this state."""
        found = torch.zeros(len(state), self.vocabulary, self.n, dtype=torch.bool)
        for place, ids in enumerate(self.responses):
            for end, token in enumerate(ids):
                found[state[ids[:end]], token, place] = True
        return found

    def sequences(self, drawn: Tensor) -> Sequences:
        """Responses [N, K] by their number: K to each of N copies of the prompt, which is one token."""
        prompts, flat = torch.ones(len(drawn), dtype=torch.long), drawn.flatten()
        tokens = self.tokens(flat)
        group = torch.arange(len(drawn)).repeat_interleave(drawn.shape[1])
        return Sequences(torch.zeros_like(prompts), prompts, self.ids[tokens], self.lengths[flat], group)

    def tokens(self, drawn: Tensor) -> Tensor:
        """[T] the place in `ids` and `states` of every token of these responses."""
        starts, lengths = self.lengths.cumsum(0) - self.lengths, self.lengths[drawn]
        within = torch.arange(int(lengths.sum())) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        return torch.repeat_interleave(starts[drawn], lengths) + within

    def walked(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """[T] the state before every completion token, and [S] the one after the last.

        Raises:
            ValueError: a completion leaves the tree.
        """
        if self._walk is None or self._walk[0] is not sequences:
            self._walk = (sequences, self._walked(sequences))
        return self._walk[1]

    def _walked(self, sequences: Sequences) -> tuple[Tensor, Tensor]:
        ids, lengths = sequences.completion_ids, sequences.completion_lengths
        starts, before = lengths.cumsum(0) - lengths, torch.zeros_like(ids)
        now = torch.zeros_like(lengths)
        for step in range(int(lengths.max()) if len(lengths) else 0):
            going = lengths > step
            places = starts[going] + step
            before[places] = now[going]
            now[going] = self.following[now[going], ids[places]]
            if bool((now < 0).any()):
                raise ValueError("a completion is none of the tree's responses")
        return before, now

    def law(self, conditional: Tensor) -> Tensor:
        """[n] log pi(y), from the log-probs [width, V] of every next token."""
        steps = conditional[self.states, self.ids]
        return steps.new_zeros(self.n).index_add(0, owner(self.lengths), steps)

    def conditional(self, leaves: Tensor) -> Tensor:
        """[width, V] logits of next tokens by which response y has a probability proportional to e^{leaves_y}."""
        shift = leaves.detach().max()
        inside = torch.where(self.below, leaves - shift, NEVER).logsumexp(-1)
        return torch.where(self.below.any(-1), inside, NEVER)


class Table(nn.Module):
    """The output head of a tabular policy, and all of its weights: logits of whole responses, or of next tokens.

    Args:
        tree: of the responses.
        log_law: [n] where it starts.
        by: what has a logit.
    """

    def __init__(self, tree: Tree, log_law: Tensor, by: By = "response") -> None:
        super().__init__()
        self.tree, self.by = tree, by
        self.logits = nn.Parameter(torch.empty(0, dtype=torch.float64))
        self.start_at(log_law)

    def start_at(self, log_law: Tensor) -> None:
        """Puts the policy at this law [n], which need not be normalised."""
        log_law = log_law.double().log_softmax(-1)
        self.logits.data = log_law.clone() if self.by == "response" else self.tree.conditional(log_law).log_softmax(-1)

    @property
    def weight(self) -> Tensor:
        """[V, width] the logits of every next token."""
        if self.by == "response":
            return self.tree.conditional(self.logits).T
        return torch.where(self.tree.below.any(-1), self.logits, NEVER).T

    def law(self) -> Tensor:
        """[n] log pi(y)."""
        return self.tree.law(self.weight.T.log_softmax(-1))

    def get_input_embeddings(self) -> Any:
        """What knows the number of tokens."""
        return SimpleNamespace(num_embeddings=self.tree.vocabulary)

    def get_output_embeddings(self) -> Table:
        """Itself."""
        return self


class Letters:
    """The tokenizer of a table: token k is the k-th letter."""

    eos_token_id = None

    def decode(self, ids: Sequence[int], **settings: Any) -> str:
        """The letters of these ids."""
        return "".join(chr(ord("a") + one) for one in ids)

    def convert_ids_to_tokens(self, token: int) -> str:
        """A letter."""
        return self.decode([token])

    def get_vocab(self) -> dict[str, int]:
        """The same for every table."""
        return {}


NOWHERE = SimpleNamespace(
    source=None, config={}, context=None, has_tokenizer=True, tokenizer_source=None, revision=None,
)
"""The origin of a table."""


class TableModel(LanguageModel):
    """A language model whose states are one-hot over the prefixes of a tree.

    Args:
        tree: of the responses.
        log_law: [n] the law it starts at.
        by: see `Table`.
    """

    tokenizer = Letters()

    def __init__(self, tree: Tree, log_law: Tensor, by: By = "response") -> None:
        nn.Module.__init__(self)
        self.tree, self.log_law, self.by = tree, log_law, by
        self.origin, self.dtype_name, self.lora, self.dropout, self.dropouts = NOWHERE, None, None, False, {}
        self.net = self.form = self.width = self.generation_config = None

    def build(self, frozen: bool = False, head: bool = True) -> None:
        """Makes the table, once; it is no weight of a part that has a head of its own."""
        if self.net is None:
            self.net = Table(self.tree, self.log_law, self.by).requires_grad_(head and not frozen)
            self.form, self.width = OutputForm(), self.tree.width

    def hidden(self, sequences: Sequences) -> Tensor:
        """[T, width]"""
        return self._one_hot(self.tree.walked(sequences)[0])

    def last_hidden(self, sequences: Sequences) -> Tensor:
        """[S, width]"""
        return self._one_hot(self.tree.walked(sequences)[1])

    def prompt_hidden(self, sequences: Sequences) -> Tensor:
        """[N, width]"""
        return self._one_hot(torch.zeros_like(sequences.prompt_lengths))

    def _one_hot(self, states: Tensor) -> Tensor:
        return nn.functional.one_hot(states, self.tree.width).double()

    def __deepcopy__(self, memo: dict[int, Any]) -> TableModel:
        twin = TableModel(self.tree, self.log_law, self.by)
        memo[id(self)] = twin
        if self.net is not None:
            twin.build()
            twin.net.logits = copy.deepcopy(self.net.logits, memo)
        return twin
