"""The KL over all words against a dense computation, and its edges."""

import pytest
import torch

from lit_rlhf.functional import linear_logps
from lit_rlhf.functional.linear_kl import Projection, linear_kl

T, V = 7, 11


def projection(seed, width, **form):
    draw = torch.Generator().manual_seed(seed)
    made = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((T, width), (V, width), (V,)))
    return Projection(*made, **form)


def dense(given):
    logits = given.scale * (given.hidden @ given.weight.T + given.bias)
    logits = logits if given.softcap is None else given.softcap * torch.tanh(logits / given.softcap)
    return logits.log_softmax(-1)


@pytest.mark.parametrize("chunk", [1, 3, 100, None])
def test_chunks_equal_the_dense_computation(chunk):
    own, its = projection(0, 5, softcap=2.0), projection(1, 3, scale=0.5)
    logps, others = dense(own), dense(its)
    found = linear_kl(own, its, chunk)
    assert torch.allclose(found, (logps.exp() * (logps - others)).sum(-1), rtol=1e-12) and (found > 0).all()
    assert not linear_kl(own, own, chunk).any()


def test_impossible_words():
    own, its = projection(0, 5), projection(1, 5)
    own.bias[2] = -torch.inf
    logps, others = dense(own), dense(its)
    keep = [word for word in range(V) if word != 2]
    expected = (logps[:, keep].exp() * (logps - others)[:, keep]).sum(-1)
    assert torch.allclose(linear_kl(own, its, 2), expected)
    assert linear_kl(its, own, 2).isposinf().all()


def test_no_gradient_no_tokens_and_few_logits_at_a_time(monkeypatch):
    own, its, rows = projection(0, 5), projection(1, 3), []
    own.weight.requires_grad_()
    assert not linear_kl(own, its).requires_grad
    none = [Projection(one.hidden[:0], one.weight, one.bias) for one in (own, its)]
    assert linear_kl(*none).shape == (0,)
    monkeypatch.setattr(linear_logps, "CHUNK_ELEMENTS", 2 * V + 1)
    logits, count = Projection.logits, lambda which: which.stop - which.start
    monkeypatch.setattr(Projection, "logits", lambda self, which: rows.append(count(which)) or logits(self, which))
    linear_kl(own, its)
    assert max(rows) == 2 and sum(rows) == 2 * T
