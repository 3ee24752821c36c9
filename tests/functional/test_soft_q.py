import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lit_rlhf.functional import linear_logps
from lit_rlhf.functional.soft_q import by_chunks, following, is_last, soft_value

T, D, V = 7, 5, 11


def given():
    draw = torch.Generator().manual_seed(0)
    logits, q = (torch.randn(T, V, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(2))
    return logits, q


def test_the_soft_value_by_a_loop():
    logits, q = given()
    found = soft_value(logits.log_softmax(-1), q, 0.3)
    for t in range(T):
        total = sum(math.exp(z) for z in logits[t].tolist())
        law = [math.exp(z) / total for z in logits[t].tolist()]
        expected = sum(p * (v - 0.3 * math.log(p)) for p, v in zip(law, q[t].tolist(), strict=True))
        assert found[t].item() == pytest.approx(expected)


def test_the_soft_value_is_greatest_for_the_boltzmann_law_where_it_is_the_log_partition():
    _, q = given()
    best = soft_value((q / 0.3).log_softmax(-1), q, 0.3)
    assert torch.allclose(best, 0.3 * (q / 0.3).logsumexp(-1))
    assert (soft_value(given()[0].log_softmax(-1), q, 0.3) < best).all()


def test_a_base_measure_takes_its_place_under_the_logarithm():
    logits, q = given()
    law, base = logits.log_softmax(-1), q.detach().roll(1, 0).log_softmax(-1)
    expected = soft_value(law, q, 0.3) + 0.3 * (law.exp() * base).sum(-1)
    assert torch.allclose(soft_value(law, q, 0.3, base), expected)
    best = soft_value((q / 0.3 + base).log_softmax(-1), q, 0.3, base)
    assert torch.allclose(best, 0.3 * (q / 0.3 + base).logsumexp(-1))


def test_what_is_never_chosen_adds_nothing_and_no_nan():
    logits, q = given()
    barred = torch.zeros(V, dtype=torch.float64).index_fill(0, torch.tensor([2]), -torch.inf)
    found = soft_value((logits + barred).log_softmax(-1), q, 0.3)
    rest = [place for place in range(V) if place != 2]
    assert torch.allclose(found, soft_value(logits[:, rest].log_softmax(-1), q[:, rest], 0.3))
    slopes = torch.autograd.grad(found.sum(), (logits, q))
    assert all(torch.isfinite(slope).all() and not slope[:, 2].any() for slope in slopes)


def test_the_next_entry_of_the_same_owner():
    owner, values = torch.tensor([0, 0, 0, 2, 3, 3]), torch.arange(6.0)
    assert is_last(owner).tolist() == [False, False, True, True, False, True]
    assert following(values, owner).tolist() == [1, 2, 0, 0, 5, 0]
    assert len(following(values[:0], owner[:0])) == 0


class Largest(TorchDispatchMode):
    """The most rows of a tensor [rows, V], the [V, D] of the weights aside, that any operation made."""

    def __init__(self):
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor) and one.ndim == 2 and one.shape[1] == V and one.shape[0] != D:
                self.rows = max(self.rows, len(one))
        return made


def linear():
    draw = torch.Generator().manual_seed(1)
    shapes = ((T, D), (V, D), (V, D))
    return [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for shape in shapes]


def value(states, policy, critic, rows=slice(None)):
    return soft_value((states[rows] @ policy.T).log_softmax(-1), states[rows] @ critic.T, 0.3)


@pytest.mark.parametrize("chunk", [1, 3, T, 100])
def test_chunks_equal_the_dense_computation_and_no_tensor_of_all_tokens_and_words_is_made(chunk):
    leaves, mix = linear(), torch.linspace(-1, 2, T, dtype=torch.float64)
    with Largest() as seen:
        found = by_chunks(lambda rows: value(*leaves, rows), T, V, chunk)
        slopes = torch.autograd.grad((mix * found).sum(), leaves)
    assert seen.rows == min(chunk, T)
    expected = value(*leaves)
    assert torch.allclose(found, expected)
    for ours, theirs in zip(slopes, torch.autograd.grad((mix * expected).sum(), leaves), strict=True):
        assert torch.allclose(ours, theirs)


def test_chunks_of_their_own_choice_hold_so_many_logits(monkeypatch):
    monkeypatch.setattr(linear_logps, "CHUNK_ELEMENTS", 2 * V + 1)
    leaves = linear()
    with Largest() as seen, torch.no_grad():
        by_chunks(lambda rows: value(*leaves, rows), T, V)
    assert seen.rows == 2
