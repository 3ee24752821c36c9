"""What an architecture does around its output head is measured; scalar heads are exact."""

import pytest
import torch
from components.tiny import config, model, sequences
from torch import nn

from lit_rlhf.components.heads import OutputForm, ScalarHead, measured_form
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.errors import InputError


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("llama", OutputForm()),
        ("gemma2", OutputForm(softcap=2.0)),
        ("recurrent_gemma", OutputForm(softcap=30.0)),
        ("cohere", OutputForm(scale=0.3)),
        ("granite", OutputForm(scale=1 / 6)),
        ("minicpm3", OutputForm(before=4 / 16)),
        ("phi3", OutputForm()),
    ],
)
def test_forms(name, form):
    found = model(name).form
    assert (found.before, found.scale) == pytest.approx((form.before, form.scale), rel=1e-6)
    assert found.softcap == (None if form.softcap is None else pytest.approx(form.softcap, rel=1e-6))


def test_measuring_leaves_the_model_as_it_was():
    found, state = model("gemma2"), torch.get_rng_state()
    before = found.token_logps(sequences()).values
    measured_form(found.net)
    assert found.net.training and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found.token_logps(sequences()).values, before)
    assert not found.net.get_output_embeddings()._forward_hooks


def changed(net, change):
    """`net` with something done to its logits."""
    forward = net.forward

    def altered(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = change(output.logits)
        return output

    net.forward = altered
    return net


@pytest.mark.parametrize(
    "change", [lambda logits: logits + 1.0, lambda logits: logits.relu(), lambda logits: logits[..., :-2]],
    ids=["shifted", "bent", "cut"],
)
def test_other_heads_are_refused(change):
    with pytest.raises(InputError, match="LlamaForCausalLM does more to its logits"):
        measured_form(changed(model().net, change))


def test_a_layer_between_backbone_and_head_is_refused():
    with pytest.raises(InputError, match="BertLMHeadModel does more"):
        LanguageModel(config=config("bert", is_decoder=True)).build()


def test_a_scalar_head_is_exact_whatever_the_arithmetic():
    head = ScalarHead(nn.Linear(1, 1), 64)
    states = torch.randn(5, 64)
    assert torch.equal(head(states), torch.zeros(5))
    with torch.no_grad():
        head.weight.normal_()
        head.bias.fill_(0.5)
    exact = states @ head.weight[0] + 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head(states), exact)
    torch.testing.assert_close(head(states.bfloat16()), states.bfloat16().float() @ head.weight[0] + 0.5)
    assert head(states.double()).dtype == torch.float64
    assert not hasattr(ScalarHead(nn.Linear(1, 1), 4, bias=False).bias, "shape")
