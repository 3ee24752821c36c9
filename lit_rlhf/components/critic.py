"""The value of what was written so far."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.heads import ScalarHead
from lit_rlhf.components.language_model import LanguageModel, as_trained
from lit_rlhf.types import Sequences


class Critic(nn.Module):
    """V(x, y_<t): a linear function of the state each completion token is predicted from; 0 at the start.

    Args:
        model: the trunk, trained too; a source or a language model.
        lr: learning rate of this part; the optimizer's own when None.
    """

    fills: ClassVar[str] = "values"

    def __init__(self, model: LanguageModel | str, lr: float | None = None) -> None:
        super().__init__()
        self.model, self.lr = as_trained(model), lr
        self.head: ScalarHead | None = None

    def build(self) -> None:
        """Loads the weights, once."""
        self.model.build(head=False)
        if self.head is None:
            self.head = ScalarHead(self.model.net, self.model.width)

    def values(self, sequences: Sequences) -> Tensor:
        """[T] the value before each completion token."""
        return self.head(self.model.hidden(sequences))


class SharedCritic(nn.Module):
    """V(x, y_<t): a linear function of the actor's own state each completion token is predicted from; 0 at the start.

    No second model: trunk and gradient are shared with the policy, and one pass gives log-probs and values.

    Args:
        lr: learning rate of the head; the optimizer's own when None.
        detach: whether the values' gradient stops at the head and leaves the trunk to the policy.
    """

    fills: ClassVar[str] = "values"

    def __init__(self, lr: float | None = None, detach: bool = False) -> None:
        super().__init__()
        self.lr, self.detach = lr, detach
        self.head: ScalarHead | None = None
        self._trunk: tuple[Actor, ...] = ()

    def attach(self, actor: Actor) -> None:
        """Says whose trunk it is; called before `build`."""
        self._trunk = (actor,)  # a tuple hides it from nn.Module: its weights are the actor's

    def build(self) -> None:
        """Makes the head, once."""
        model = self._trunk[0].model
        model.build()
        if self.head is None:
            self.head = ScalarHead(model.net, model.width)

    def of(self, hidden: Tensor) -> Tensor:
        """[T] values of the actor's states [T, D]."""
        return self.head(hidden.detach() if self.detach else hidden)

    def values(self, sequences: Sequences) -> Tensor:
        """[T] the value before each completion token."""
        return self.of(self._trunk[0].hidden(sequences))
