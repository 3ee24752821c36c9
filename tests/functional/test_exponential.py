import math

import pytest
import torch

from lit_rlhf.functional import exponential


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("ours", "plain"), [(exponential.exp, torch.exp), (exponential.expm1, torch.expm1)])
def test_it_is_the_exponential_up_to_its_limit(ours, plain, dtype):
    x = torch.linspace(-1e4, exponential.LARGEST, 1001, dtype=dtype).requires_grad_()
    assert torch.equal(ours(x), plain(x)) and ours(x).dtype == dtype
    (slope,) = torch.autograd.grad(ours(x)[:-1].sum(), x)
    assert torch.allclose(slope[:-1], torch.exp(x[:-1]), atol=1e-6)


@pytest.mark.parametrize("ours", [exponential.exp, exponential.expm1])
def test_beyond_it_goes_on_as_its_tangent(ours):
    x = torch.tensor([exponential.LARGEST + 2, 1e4], requires_grad=True)
    (slope,) = torch.autograd.grad(ours(x).sum(), x)
    assert slope.tolist() == pytest.approx([math.exp(exponential.LARGEST)] * 2)
    assert ours(x).tolist() == pytest.approx(
        [math.exp(exponential.LARGEST) * (1 + far) for far in (2, 1e4 - exponential.LARGEST)]
    )
