"""Log-probs, entropies and gradients against a plain computation, one unpadded sequence at a time."""

import pytest
import torch
from components.tiny import ARCHITECTURES, VOCABULARY, config, dense, model, rows, sequences, states
from torch.utils._python_dispatch import TorchDispatchMode

from lit_rlhf.components.attention import Padded
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.errors import InputError
from lit_rlhf.functional import linear_logps
from lit_rlhf.types import Kept, Law

NAMES = list(ARCHITECTURES)


@pytest.mark.parametrize("name", NAMES)
def test_log_probs_entropies_and_gradients_are_those_of_dense_logits(name):
    found, given = model(name), sequences()
    logps = dense(found.net, given)
    chosen = logps.gather(1, given.completion_ids[:, None])[:, 0]
    entropies = -(logps.exp() * logps).sum(-1)
    ours = found.token_logps(given, entropy=True, collision=True)
    torch.testing.assert_close(ours.values, chosen, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(ours.entropy, entropies, atol=2e-5, rtol=1e-4)
    collisions = logps.exp().square().sum(-1).log()
    torch.testing.assert_close(ours.collision, collisions.detach(), atol=2e-5, rtol=1e-4)
    assert not ours.collision.requires_grad
    weight = torch.randn(len(chosen), generator=torch.Generator().manual_seed(1))
    trained = list(found.net.parameters())
    unused = {"allow_unused": True, "materialize_grads": True}
    expected = torch.autograd.grad(chosen @ weight + entropies.sum(), trained, **unused)
    gradient = torch.autograd.grad(ours.values @ weight + ours.entropy.sum(), trained, **unused)
    largest = max(float(value.abs().max()) for value in expected)
    assert largest > 1e-2
    for one, other in zip(gradient, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4 * largest, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_its_states(name):
    found, given = model(name), sequences()
    alone, pairs = states(found.net.base_model, given), rows(given)
    hidden = torch.cat([row[len(prompt) - 1 : -1] for row, (prompt, _) in zip(alone, pairs, strict=True)])
    torch.testing.assert_close(found.hidden(given), hidden, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.last_hidden(given), torch.stack([row[-1] for row in alone]), atol=2e-5, rtol=1e-4)
    first = {prompt: index for index, prompt in reversed(list(enumerate(given.prompt_of.tolist())))}
    prompts = torch.stack([alone[first[index]][len(pairs[first[index]][0]) - 1] for index in range(3)])
    torch.testing.assert_close(found.prompt_hidden(given), prompts, atol=2e-5, rtol=1e-4)


class LargestOfWidth(TorchDispatchMode):
    """The most rows of a tensor whose last dimension is V, but for the weights, among all that is computed."""

    def __init__(self):
        super().__init__()
        self.most = self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor) and value.shape[-1:] == (VOCABULARY,):
                self.most, self.seen = max(self.most, value.numel() // VOCABULARY), self.seen + 1
        return result


def test_no_tensor_of_all_logits_is_alive(monkeypatch):
    monkeypatch.setattr(linear_logps, "CHUNK_ELEMENTS", 3 * VOCABULARY)
    found, given = model(), sequences()
    with LargestOfWidth() as tensors:
        ours = found.token_logps(given, entropy=True, collision=True)
        forward = tensors.seen
        (ours.values.sum() + ours.entropy.sum()).backward()
    assert 0 < forward < tensors.seen
    assert tensors.most <= max(3, found.width) < len(given.completion_ids)  # the transposed weights have D rows


def test_nothing_is_read_or_drawn_before_build():
    state = torch.get_rng_state()
    nowhere = LanguageModel("no/such-model", lora=LoRA(rank=2))
    drawn = LanguageModel(config=config())
    assert nowhere.net is None and not list(drawn.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_build_is_done_once():
    found = model()
    weight = next(found.parameters()).clone()
    found.build()
    assert torch.equal(next(found.parameters()), weight)


def noisy(name):
    """A configuration with every dropout that its class knows."""
    from transformers import AutoConfig

    known = AutoConfig.for_model(name).to_dict()
    return config(name, **{key: 0.5 for key, value in known.items() if "drop" in key and isinstance(value, float)})


@pytest.mark.parametrize("name", [*NAMES, "gpt_neox", "falcon", "opt"])
def test_dropout_is_off_in_training(name):
    found, given = LanguageModel(config=noisy(name)), sequences()
    found.build()
    assert found.net.training
    train = found.token_logps(given).values
    assert torch.equal(train, found.token_logps(given).values)
    assert torch.equal(found.eval().token_logps(given).values, train)


def test_dropout_can_be_asked_for():
    found, given = LanguageModel(config=noisy("gpt2"), dropout=True), sequences()
    found.build()
    assert not torch.equal(found.token_logps(given).values, found.token_logps(given).values)


def test_gradient_checkpointing_recomputes_and_changes_nothing():
    gradients, calls = [], []
    for checkpointing in (False, True):
        found = model(gradient_checkpointing=checkpointing)
        layer = found.net.model.layers[0]
        count = []
        layer.mlp.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        found.token_logps(sequences()).values.sum().backward()
        gradients.append([weight.grad for weight in found.parameters()])
        calls.append(len(count))
    assert calls[1] == 2 * calls[0]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_adapters_train_under_gradient_checkpointing():
    found = model(lora=LoRA(rank=2), gradient_checkpointing=True)
    found.token_logps(sequences()).values.sum().backward()
    trained = [weight for weight in found.parameters() if weight.requires_grad]
    assert trained and all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained)


def test_attention_can_be_chosen():
    values = []
    for attention in ("eager", "sdpa"):
        found = model(attention=attention)
        assert found.net.config._attn_implementation == attention
        values.append(found.token_logps(sequences()).values)
    torch.testing.assert_close(*values, atol=1e-5, rtol=1e-5)


def test_the_layout_is_a_part():
    one, other = model(layout=Padded(waste=0.0)), model(layout=Padded(waste=1.0))
    assert one.layout.waste == 0.0
    values = [found.token_logps(sequences()).values for found in (one, other)]
    torch.testing.assert_close(*values, atol=1e-5, rtol=1e-5)


def test_bfloat16_arithmetic_is_near_and_has_gradients():
    found, given = model(), sequences()
    exact = found.token_logps(given, collision=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = found.token_logps(given, entropy=True, collision=True)
    (rounded.values.sum() + rounded.entropy.sum()).backward()
    assert rounded.values.dtype == rounded.collision.dtype == torch.float32
    for name in ("values", "collision"):
        assert 0 < float((getattr(rounded, name) - getattr(exact, name)).detach().abs().max()) < 0.2
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in found.parameters())


def test_dtype_is_that_of_frozen_weights():
    stored = LanguageModel(config=config(), dtype="bfloat16")
    stored.build(frozen=True)
    assert {weight.dtype for weight in stored.parameters()} == {torch.bfloat16}
    assert not any(weight.requires_grad for weight in stored.parameters()) and not stored.net.training
    assert stored.token_logps(sequences()).values.dtype == torch.float32
    adapted = LanguageModel(config=config(), dtype="bfloat16", lora=LoRA(rank=2))
    adapted.build()
    assert {weight.dtype for weight in adapted.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for weight in adapted.parameters() if not weight.requires_grad} == {torch.bfloat16}
    adapted.token_logps(sequences()).values.sum().backward()


@pytest.mark.parametrize(
    ("options", "frozen", "message"),
    [({"dtype": "bfloat16"}, False, "trainer.precision"), ({"lora": LoRA(rank=2)}, True, "would do nothing")],
)
def test_options_without_effect_are_refused(options, frozen, message):
    with pytest.raises(InputError, match=message):
        LanguageModel(config=config(), **options).build(frozen)


def test_head_parity_sees_another_head():
    found, given = model("gemma2"), sequences()
    assert found.head_parity(given) < 1e-5
    found.form = type(found.form)(scale=found.form.scale)
    assert found.head_parity(given) > 1e-2


def test_a_trunk_has_no_head():
    found = LanguageModel(config=config())
    found.build(head=False)
    assert not any("lm_head" in name for name, _ in found.named_parameters())
    assert found.last_hidden(sequences()).shape == (5, found.width) and found.stop_ids == (1,)


def test_neither_source_nor_config_is_refused():
    with pytest.raises(InputError, match="neither source"):
        LanguageModel()
    with pytest.raises(InputError, match="model_type is missing"):
        LanguageModel(config={"hidden_size": 8})


def test_log_probs_under_a_law_come_from_the_same_states():
    found, given = model("gemma2"), sequences()
    count, passes = len(given.completion_ids), []
    lengths = torch.tensor([3, 0] * count)[:count]
    draw = torch.Generator().manual_seed(2)
    sets = [
        sorted({int(target), *torch.randperm(VOCABULARY, generator=draw)[: size - 1].tolist()}) if size else []
        for target, size in zip(given.completion_ids, lengths.tolist(), strict=True)
    ]
    kept = Kept(torch.tensor([token for one in sets for token in one]), torch.tensor([len(one) for one in sets]))
    found.net.model.register_forward_hook(lambda *_: passes.append(1))
    plain = found.token_logps(given, entropy=True)
    once = len(passes)
    scored = found.token_logps(given, entropy=True, law=Law(0.5, kept))
    assert len(passes) == 2 * once and plain.acting is None
    assert torch.equal(scored.values, plain.values) and torch.equal(scored.entropy, plain.entropy)
    with torch.no_grad():
        logits = dense(found.net, given) / 0.5
        for row, one in zip(logits, sets, strict=True):
            row[[token for token in range(VOCABULARY) if one and token not in one]] = -torch.inf
    expected = logits.log_softmax(-1).gather(1, given.completion_ids[:, None])[:, 0]
    torch.testing.assert_close(scored.acting, expected, atol=1e-5, rtol=1e-5)
    hidden = found.hidden(given)
    passes.clear()
    assert torch.equal(found.token_logps(given, law=Law(0.5, kept), hidden=hidden).acting, scored.acting) and not passes
    scored.acting.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in found.parameters() if weight.grad is not None)


def test_the_kl_over_the_vocabulary():
    policy, other, given = model("gemma2"), model("gpt2", seed=1), sequences()
    found = policy.token_kl(given, other)
    logps, others = dense(policy.net, given), dense(other.net, given)
    torch.testing.assert_close(found, (logps.exp() * (logps - others)).sum(-1), atol=1e-5, rtol=1e-5)
    assert not found.requires_grad and not policy.token_kl(given, policy).any()
    with pytest.raises(InputError, match="has 23 tokens and that of the reference 29"):
        wide = LanguageModel(config=config(vocab_size=29))
        wide.build()
        policy.token_kl(given, wide)
