"""References: what they equal, that they stay, and how the moving one moves."""

import pytest
import torch
from components.tiny import config, dense, make_run, model, sequences, spread

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.cached import Cached
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reference import EMA, AdapterOff, FromCheckpoint, FrozenCopy
from lit_rlhf.errors import InputError


def actor(seed=0, **options):
    """A built policy; adapters are away from their start."""
    part = Actor(model(seed=seed, **options))
    part.build()
    return part


def fresh(**options):
    """A built policy as it is before the first update."""
    torch.manual_seed(0)
    part = Actor(LanguageModel(config=config("gpt2", resid_pdrop=0.3), dropout=True, **options))
    part.build()
    return part


REFERENCES = {
    "frozen copy": (FrozenCopy, {}),
    "ema": (EMA, {}),
    "adapters off": (AdapterOff, {"lora": LoRA(rank=2, dropout=0.3)}),
    "frozen copy with adapters": (FrozenCopy, {"lora": LoRA(rank=2)}),
    "cached": (Cached, {}),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_equal_at_the_start_and_unmoved_by_training(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind, options = REFERENCES[name]
    part, reference = fresh(**options), kind()
    reference.build(part)
    assert reference.equal_at_start
    start = reference.token_logps(sequences())
    assert torch.equal(start, part.eval().token_logps(sequences()).values) and not start.requires_grad
    spread(part.train().model.net)
    assert torch.equal(reference.token_logps(sequences()), start)
    assert (part.token_logps(sequences()).values - start).abs().max() > 0.1


@pytest.mark.parametrize("name", REFERENCES)
def test_the_kl_of_the_policy_over_the_vocabulary(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind, options = REFERENCES[name]
    part, reference = fresh(**options), kind()
    reference.build(part)
    start = dense(part.eval().model.net, sequences())
    torch.testing.assert_close(reference.token_kl(part, sequences()), torch.zeros(len(start)), atol=1e-6, rtol=0)
    spread(part.model.net)
    logps, found = dense(part.model.net, sequences()), reference.token_kl(part, sequences())
    torch.testing.assert_close(found, (logps.exp() * (logps - start)).sum(-1), atol=1e-5, rtol=1e-4)
    assert found.min() > 0 and not found.requires_grad


@pytest.mark.parametrize("name", REFERENCES)
def test_random_state_modes_and_gradients_are_left_alone(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kind, options = REFERENCES[name]
    part, reference = fresh(**options), kind()
    modes = {key: module.training for key, module in part.named_modules()}
    trained = {key: weight.requires_grad for key, weight in part.named_parameters()}
    state = torch.get_rng_state()
    reference.build(part)
    reference.token_logps(sequences())
    assert torch.equal(torch.get_rng_state(), state)
    assert modes == {key: module.training for key, module in part.named_modules()} and any(modes.values())
    assert trained == {key: weight.requires_grad for key, weight in part.named_parameters()} and any(trained.values())


def test_adapters_off_is_exactly_the_base():
    part = actor(lora=LoRA(rank=2))
    reference = AdapterOff()
    reference.build(part)
    off = reference.token_logps(sequences())
    part.model.net.unload()
    bare = LanguageModel(config=config())
    bare.build()
    bare.net.load_state_dict(part.model.net.base_model.model.state_dict())
    assert torch.equal(off, bare.token_logps(sequences()).values)


def test_adapters_off_needs_adapters():
    with pytest.raises(InputError, match="AdapterOff needs an actor with adapters"):
        AdapterOff().build(actor())


def test_a_copy_shares_what_is_not_trained():
    part = actor(lora=LoRA(rank=2))
    reference = FrozenCopy()
    reference.build(part)
    own = {weight.data_ptr() for weight in reference.model.parameters()}
    for weight in part.model.parameters():
        assert (weight.data_ptr() in own) is not weight.requires_grad


def test_a_copy_can_be_stored_in_half():
    part = actor(lora=LoRA(rank=2))
    reference = FrozenCopy(dtype="bfloat16")
    reference.build(part)
    assert {weight.dtype for weight in reference.model.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in part.parameters()} == {torch.float32}
    apart = (reference.token_logps(sequences()) - part.token_logps(sequences()).values).abs().max()
    assert 0 < apart < 0.2


def weights_of(module):
    return {name: weight.detach().clone() for name, weight in module.named_parameters()}


@pytest.mark.parametrize("options", [{}, {"lora": LoRA(rank=2)}], ids=["all weights", "adapters"])
def test_the_moving_average(options):
    part, decay = actor(**options), 0.75
    reference = EMA(decay=decay, every=2)
    reference.build(part)
    w0 = weights_of(part.model)
    history = []
    for step in range(1, 5):
        spread(part.model.net)
        history.append(weights_of(part.model))
        reference.after_update(part, step)
    for name, weight in reference.model.named_parameters():
        expected = decay**2 * w0[name] + decay * (1 - decay) * history[1][name] + (1 - decay) * history[3][name]
        torch.testing.assert_close(weight, expected if history[0][name].ne(w0[name]).any() else w0[name])


def test_the_hard_update_is_decay_zero():
    part, reference = actor(), EMA(decay=0.0, every=1)
    reference.build(part)
    spread(part.model.net)
    reference.after_update(part, 1)
    assert torch.equal(reference.token_logps(sequences()), part.token_logps(sequences()).values)


@pytest.mark.parametrize("options", [{}, {"lora": LoRA(rank=2)}], ids=["all weights", "adapters"])
def test_the_moving_average_comes_back_from_its_state(options):
    part, reference, again = actor(**options), EMA(decay=0.5, every=1), EMA(decay=0.5, every=1)
    for one in (reference, again):
        one.build(part)
    spread(part.model.net)
    reference.after_update(part, 1)
    state = reference.state_dict()
    assert set(state) == {name for name, weight in part.model.named_parameters() if weight.requires_grad}
    again.load_state_dict(state)
    assert torch.equal(again.token_logps(sequences()), reference.token_logps(sequences()))
    assert FrozenCopy().state_dict() == {}


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"decay": -0.1}, {"every": 0}])
def test_impossible_averages(options):
    with pytest.raises(InputError, match="decay is in"):
        EMA(**options)


def test_another_model(tmp_path):
    other = actor(seed=1)
    run = make_run(tmp_path / "run", "actor", other)
    reference, part = FromCheckpoint(run), actor()
    state = torch.get_rng_state()
    reference.build(part)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(reference.token_logps(sequences()), other.token_logps(sequences()).values)
    assert not any(weight.requires_grad for weight in reference.model.parameters()) and not reference.equal_at_start


def test_a_reference_over_other_tokens_is_refused(tmp_path):
    from tokens import byte_tokenizer

    for name, words in (("one", ("hello",)), ("other", ("world",))):
        byte_tokenizer(*words).save_pretrained(tmp_path / name)
    one, other = (
        LanguageModel(config=config(vocab_size=300), tokenizer=str(tmp_path / name)) for name in ("one", "other")
    )
    part = Actor(one)
    part.build()
    with pytest.raises(InputError, match="has other tokens than the actor"):
        FromCheckpoint(other).build(part)
