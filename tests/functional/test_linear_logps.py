import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lit_rlhf.functional import linear_logps as module
from lit_rlhf.functional.linear_logps import linear_logps

T, D, V = 7, 5, 11
FORMS = [{}, {"bias": True}, {"softcap": 2.0}, {"scale": 0.5}, {"bias": True, "softcap": 1.5, "scale": 1.7}]


def inputs(dtype=torch.float64, bias=False, rows=T):
    draw = torch.Generator().manual_seed(0)
    made = [
        torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((rows, D), (V, D), (V,))
    ]
    return made[0], made[1], made[2] if bias else None, torch.randint(V, (rows,), generator=draw)


def dense(hidden, weight, bias, targets, softcap=None, scale=1.0):
    """Every logit at once: values, entropies and log sum_v p_v^2."""
    logits = hidden @ weight.T
    logits = scale * (logits if bias is None else logits + bias)
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    logps = logits.log_softmax(-1)
    probability = logps.exp()
    values, collision = logps[torch.arange(len(targets)), targets], probability.square().sum(-1).log()
    return values, -(probability * logps).sum(-1), collision


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("chunk", [1, 3, T, 100, None])
def test_chunks_equal_the_dense_computation(form, chunk):
    form = dict(form)
    hidden, weight, bias, targets = inputs(bias=form.pop("bias", False))
    leaves = [leaf for leaf in (hidden, weight, bias) if leaf is not None]
    mix = torch.linspace(-1, 2, T, dtype=torch.float64)
    found = linear_logps(hidden, weight, targets, bias, chunk_size=chunk, entropy=True, collision=True, **form)
    expected = dense(hidden, weight, bias, targets, **form)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12)
    assert not found[2].requires_grad
    for pick in ((1.0, 0.0), (0.0, 1.0), (0.7, -0.3)):
        slopes = [
            torch.autograd.grad(
                sum(p * (mix * one).sum() for p, one in zip(pick, pair[:2], strict=True)), leaves, retain_graph=True
            )
            for pair in (found, expected)
        ]
        for ours, theirs in zip(*slopes, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    hidden, weight, bias, targets = inputs(bias=True)
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_logps(h, w, targets, b, softcap=2.0, scale=0.7, chunk_size=2, entropy=True)[:2],
        (hidden, weight, bias),
    )


SETS = [[0, 3, 10], [], list(range(V)), [2], [1, 4, 5, 9], [], [7, 8]]
"""Of every row; an empty one stands for all tokens."""


def kept_by(targets, outside=()):
    """Every row's set with its target in it, but for the rows `outside`."""
    sets = [
        (sorted({*kept, target} - ({target} if row in outside else set())) if kept else [])
        for row, (kept, target) in enumerate(zip(SETS, targets.tolist(), strict=True))
    ]
    ids = torch.tensor([token for kept in sets for token in kept], dtype=torch.int32)
    return sets, {"kept_ids": ids, "kept_lengths": torch.tensor([len(kept) for kept in sets])}


def dense_law(hidden, weight, bias, targets, sets, temperature, softcap=None, scale=1.0):
    """Every logit at once, those outside a row's set at minus infinity."""
    logits = scale * (hidden @ weight.T + (0 if bias is None else bias))
    logits = (logits if softcap is None else softcap * torch.tanh(logits / softcap)) / temperature
    barred = torch.tensor([[bool(kept) and token not in kept for token in range(V)] for kept in sets])
    logps = logits.masked_fill(barred, -torch.inf).log_softmax(-1)
    probability = logps.exp()
    entropy = -torch.where(barred, 0.0, probability * torch.where(barred, 0.0, logps)).sum(-1)
    return logps[torch.arange(len(targets)), targets], entropy, probability.square().sum(-1).log()


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(("chunk", "temperature"), [(1, 0.7), (3, 1.0), (T, 1.6), (None, 0.5)])
def test_a_law_equals_the_dense_computation(form, chunk, temperature):
    form = dict(form)
    hidden, weight, bias, targets = inputs(bias=form.pop("bias", False))
    leaves = [leaf for leaf in (hidden, weight, bias) if leaf is not None]
    sets, kept = kept_by(targets)
    law = {"temperature": temperature, **kept, "chunk_size": chunk, "entropy": True, "collision": True}
    found = linear_logps(hidden, weight, targets, bias, **law, **form)
    expected = dense_law(hidden, weight, bias, targets, sets, temperature, **form)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-13)
    mix = torch.linspace(-1, 2, T, dtype=torch.float64)
    slopes = [
        torch.autograd.grad((mix * one[0] - 0.3 * mix * one[1]).sum(), leaves) for one in (found, expected)
    ]  # fmt: skip
    for ours, theirs in zip(*slopes, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_gradients_of_a_law_are_those_of_finite_differences():
    hidden, weight, bias, targets = inputs(bias=True)
    law = {"temperature": 0.6, **kept_by(targets)[1]}
    assert torch.autograd.gradcheck(
        lambda h, w, b: linear_logps(h, w, targets, b, softcap=2.0, chunk_size=2, entropy=True, **law)[:2],
        (hidden, weight, bias),
    )


def test_a_target_outside_its_set_is_impossible_and_has_no_gradient():
    hidden, weight, _, targets = inputs()
    outside = (0, 4)
    sets, kept = kept_by(targets, outside)
    values = linear_logps(hidden, weight, targets, chunk_size=2, **kept)[0]
    assert values.isneginf().nonzero()[:, 0].tolist() == list(outside)
    values.sum().backward()
    inside = torch.tensor([row for row in range(T) if row not in outside])
    own = [leaf.detach().requires_grad_() for leaf in (hidden, weight)]
    dense_law(*own, None, targets, sets, 1.0)[0][inside].sum().backward()
    assert torch.allclose(hidden.grad[inside], own[0].grad[inside]) and hidden.grad.isfinite().all()


def test_only_what_asks_for_a_gradient_gets_one():
    hidden, weight, bias, targets = inputs(bias=True)
    for wanted in (hidden, weight, bias):
        leaves = [leaf.detach().requires_grad_(leaf is wanted) for leaf in (hidden, weight, bias)]
        linear_logps(leaves[0], leaves[1], targets, leaves[2], chunk_size=2)[0].sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [leaf.requires_grad for leaf in leaves]


@pytest.mark.parametrize(
    ("given", "result"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_log_probabilities_are_in_single_precision_or_better_and_gradients_in_that_of_the_weights(given, result):
    hidden, weight, bias, targets = inputs(given, bias=True)
    values, entropy, collision = linear_logps(hidden, weight, targets, bias, chunk_size=2, entropy=True, collision=True)
    assert values.dtype == entropy.dtype == collision.dtype == result
    (values.sum() + entropy.sum()).backward()
    assert hidden.grad.dtype == weight.grad.dtype == bias.grad.dtype == given
    exact = [leaf.detach().double().requires_grad_() for leaf in (hidden, weight, bias)]
    expected, expected_entropy, expected_collision = dense(*exact, targets)
    (expected.sum() + expected_entropy.sum()).backward()
    coarse = {"rtol": 0.05, "atol": 0.05} if given == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    assert torch.allclose(values.double(), expected, **coarse)
    assert torch.allclose(collision.double(), expected_collision, **coarse)
    for ours, theirs in zip((hidden, weight, bias), exact, strict=True):
        assert torch.allclose(ours.grad.double(), theirs.grad, **coarse)


def test_the_gradient_of_bf16_weights_is_added_up_in_single_precision():
    rows = 2048
    hidden, weight = (
        torch.ones(rows, 1, dtype=torch.bfloat16),
        torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True),
    )
    linear_logps(hidden, weight, torch.zeros(rows, dtype=torch.long), chunk_size=1)[0].sum().backward()
    assert weight.grad[:, 0].tolist() == [rows / 2, -rows / 2]  # bf16 alone would stop growing at 128 times an addend


@pytest.mark.parametrize("asked", [(), ("entropy",), ("collision",)])
def test_nothing_but_log_probabilities_unless_asked_for(asked):
    hidden, weight, _, targets = inputs()
    given = dict(zip(("values", "entropy", "collision"), linear_logps(hidden, weight, targets), strict=True))
    every = dict(zip(given, linear_logps(hidden, weight, targets, entropy=True, collision=True), strict=True))
    found = dict(zip(given, linear_logps(hidden, weight, targets, **dict.fromkeys(asked, True)), strict=True))
    assert {name for name, value in found.items() if value is not None} == {"values", *asked}
    assert all(torch.equal(found[name], every[name]) for name in ("values", *asked))
    found["values"].sum().backward()
    assert hidden.grad.any() and weight.grad.any()


def test_no_tokens_have_no_log_probabilities():
    hidden, weight, bias, targets = inputs(bias=True, rows=0)
    values, entropy, collision = linear_logps(hidden, weight, targets, bias, entropy=True, collision=True)
    assert values.shape == entropy.shape == collision.shape == (0,)
    (values.sum() + entropy.sum()).backward()
    assert hidden.grad.shape == (0, D) and not weight.grad.any() and not bias.grad.any()


def test_impossible_words_add_no_nan():
    hidden, weight, bias, targets = inputs(bias=True)
    barred = (targets[0] + 1) % V
    keep = torch.tensor([token for token in range(V) if token != barred])
    targets = torch.where(targets == barred, targets[0], targets)
    with torch.no_grad():
        bias[barred] = -torch.inf
    values, entropy, collision = linear_logps(hidden, weight, targets, bias, chunk_size=2, entropy=True, collision=True)
    (values.sum() + entropy.sum()).backward()
    place = torch.searchsorted(keep, targets)
    rest = [
        hidden.detach().requires_grad_(),
        weight.detach()[keep].requires_grad_(),
        bias.detach()[keep].requires_grad_(),
    ]
    expected, expected_entropy, expected_collision = dense(*rest, place)
    (expected.sum() + expected_entropy.sum()).backward()
    assert torch.allclose(values, expected) and torch.allclose(entropy, expected_entropy)
    assert torch.allclose(collision, expected_collision)
    assert torch.allclose(hidden.grad, rest[0].grad) and torch.allclose(weight.grad[keep], rest[1].grad)
    assert not weight.grad[barred].any()


def test_extreme_logits_stay_finite():
    hidden, weight, _, targets = inputs(torch.float32)
    values, entropy, collision = linear_logps(1e4 * hidden, weight, targets, chunk_size=2, entropy=True, collision=True)
    (values.sum() + entropy.sum()).backward()
    assert all(torch.isfinite(one).all() for one in (values, entropy, collision, hidden.grad, weight.grad))
    assert (entropy >= 0).all() and (collision <= 0).all()


class Largest(TorchDispatchMode):
    """The most elements of a tensor of logits, [rows, V] but not the [D, V] of the weights, that any operation made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor) and one.ndim == 2 and one.shape[1] == V and one.shape[0] != D:
                self.elements = max(self.elements, one.numel())
        return made


@pytest.mark.parametrize("chunk", [1, 3])
def test_no_tensor_of_all_tokens_and_words_is_made(chunk):
    hidden, weight, bias, targets = inputs(bias=True)
    with Largest() as seen:
        values, entropy, _ = linear_logps(
            hidden, weight, targets, bias, softcap=2.0, scale=0.5, chunk_size=chunk, entropy=True, collision=True
        )
        (values.sum() + entropy.sum()).backward()
    assert seen.elements == chunk * V < T * V


def test_chunks_of_their_own_choice_hold_so_many_logits(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 2 * V + 1)
    hidden, weight, _, targets = inputs()
    with Largest() as seen:
        linear_logps(hidden, weight, targets)[0].sum().backward()
    assert seen.elements == 2 * V
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 1)  # a row is the least
    assert torch.allclose(linear_logps(hidden, weight, targets)[0], dense(hidden, weight, None, targets)[0])
