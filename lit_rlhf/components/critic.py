"""The value of what was written so far."""

from __future__ import annotations

from torch import Tensor, nn

from lit_rlhf.components.heads import ScalarHead
from lit_rlhf.components.language_model import LanguageModel, as_trained
from lit_rlhf.types import Sequences


class Critic(nn.Module):
    """V(x, y_<t): a linear function of the state each completion token is predicted from; 0 at the start.

    Args:
        model: the trunk, trained too; a source or a language model.
        lr: learning rate of this part; the optimizer's own when None.
    """

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
