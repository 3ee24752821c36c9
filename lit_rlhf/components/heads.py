"""From states to numbers: what a model's output head does to a state, and scalar heads for any trunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lit_rlhf.errors import InputError
from lit_rlhf.functional.linear_kl import Projection
from lit_rlhf.functional.linear_logps import linear_logps
from lit_rlhf.types import Law

_SMALL, _LARGE = 2.0**-10, 2.0**20
_PROBES = (_SMALL, _LARGE, 1.0, -1.0, 5.0, -12.0, 40.0, 0.0)


@dataclass(frozen=True)
class OutputForm:
    """Logits of a state h: z = softcap * tanh(scale * (W (before * h) + b) / softcap)."""

    before: float = 1.0
    scale: float = 1.0
    softcap: float | None = None

    def projected(self, head: nn.Module, hidden: Tensor) -> Projection:
        """What the logits of the states [T, D] are made of, in the precision of the arithmetic.

        Args:
            head: the linear map W, b.
            hidden: [T, D]
        """
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
        hidden = hidden if self.before == 1.0 else hidden * self.before
        bias = getattr(head, "bias", None)
        return Projection(hidden.to(dtype), head.weight.to(dtype), bias, self.softcap, self.scale)

    def logps(
        self,
        head: nn.Module,
        hidden: Tensor,
        targets: Tensor,
        entropy: bool = False,
        collision: bool = False,
        law: Law | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """log softmax(z)[target], entropies or None, log sum_v p_v^2 or None: [T] each, in nats.

        No [T, V] tensor is ever alive.

        Args:
            head: the linear map W, b.
            hidden: [T, D]
            targets: [T] token ids.
            entropy: whether to compute the entropies.
            collision: whether to compute log sum_v p_v^2, p the softmax, without gradient.
            law: softmax(z / temperature) over the kept tokens instead.
        """
        given, law = self.projected(head, hidden), law or Law()
        kept = {} if law.kept is None else {"kept_ids": law.kept.ids, "kept_lengths": law.kept.lengths}
        return linear_logps(
            given.hidden, given.weight, targets, bias=given.bias, softcap=given.softcap, scale=given.scale,
            entropy=entropy, collision=collision, temperature=law.temperature, **kept,
        )


@torch.no_grad()
def measured_form(net: Any) -> OutputForm:
    """What the model class does around its output head, found by putting known numbers in the place of W h + b.

    Reading it from the configuration would need a list of names that differ between architectures, and mean different
    things in some: `logits_scaling` divides in Granite and multiplies elsewhere.

    Raises:
        InputError: the logits are no such function of a linear map of the backbone's states.
    """
    head, seen = net.get_output_embeddings(), {}
    if not isinstance(getattr(head, "weight", None), Tensor) or net.base_model is net:
        raise InputError(f"{type(net).__name__} has no linear output head over a backbone: it cannot be trained here")

    def put_probes(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen["input"] = inputs[0].flatten(0, -2).float()
        probes = torch.tensor(_PROBES, dtype=torch.float32, device=output.device).repeat(1 + output.shape[-1] // len(_PROBES))
        seen["probes"] = probes[: output.shape[-1]]
        return seen["probes"].expand(output.shape)

    hook, training = head.register_forward_hook(put_probes), net.training
    tokens = {"input_ids": torch.arange(min(4, len(head.weight)), device=head.weight.device)[None], "use_cache": False}
    try:
        logits = net.eval()(**tokens).logits.flatten(0, -2)[-1].float()
        states = net.base_model(**tokens).last_hidden_state.flatten(0, -2).float()
    finally:
        net.train(training)
        hook.remove()
    form = _fitted(states, seen["input"], seen["probes"], logits) if len(logits) == len(head.weight) else None
    if form is None:
        raise InputError(
            f"{type(net).__name__} does more to its logits than a linear head, a scale and a soft cap: it cannot be "
            "trained here"
        )
    return form


def _fitted(states: Tensor, given: Tensor, probes: Tensor, logits: Tensor) -> OutputForm | None:
    """The form that takes `states` [n, D] to `given` [n, D] and `probes` [V] to `logits` [V], or None."""
    if given.shape != states.shape:
        return None
    scale, most = float(logits[0]) / _SMALL, float(logits[1])
    softcap = most if abs(most) < abs(scale) * _LARGE / 2 else None
    before = float((given * states).sum() / states.square().sum())
    form = OutputForm(1.0 if abs(before - 1) < 1e-3 else before, 1.0 if abs(scale - 1) < 1e-6 else scale, softcap)
    expected = form.scale * probes[: len(logits)]
    expected = expected if softcap is None else softcap * torch.tanh(expected / softcap)
    linear = torch.allclose(given, form.before * states, rtol=0.02, atol=1e-5)
    return form if linear and torch.allclose(logits, expected, rtol=1e-3, atol=1e-6) else None


class ScalarHead(nn.Module):
    """w . h + b of a state h, in float32 at least, whatever the precision of the trunk; 0 at the start.

    Args:
        trunk: a network, for the device and the precision of its weights.
        width: D
        bias: whether there is a b.
    """

    def __init__(self, trunk: nn.Module, width: int, bias: bool = True) -> None:
        super().__init__()
        like = next(trunk.parameters())
        dtype = torch.promote_types(like.dtype, torch.float32)
        self.weight = nn.Parameter(torch.zeros((1, width), dtype=dtype, device=like.device))
        self.bias = nn.Parameter(torch.zeros(1, dtype=dtype, device=like.device)) if bias else None

    def forward(self, states: Tensor) -> Tensor:
        """[n, D] -> [n]"""
        dtype = torch.promote_types(states.dtype, torch.float32)
        bias = None if self.bias is None else self.bias.to(dtype)
        with torch.autocast(states.device.type, enabled=False):
            return nn.functional.linear(states.to(dtype), self.weight.to(dtype), bias)[:, 0]
