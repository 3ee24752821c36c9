"""Twin critics over the vocabulary, and their slow copies."""

import pytest
import torch
from components.tiny import VOCABULARY, config, dense, model, sequences, spread
from torch.utils._python_dispatch import TorchDispatchMode

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reference import AdapterOff, FromCheckpoint
from lit_rlhf.components.soft_q import SoftCritic, base_of
from lit_rlhf.errors import InputError
from lit_rlhf.functional import linear_logps
from lit_rlhf.losses.soft import SoftPolicy, SoftQ
from lit_rlhf.types import Evidence, ScoredBatch


def critic(seed=1, **options):
    torch.manual_seed(seed)
    made = SoftCritic(LanguageModel(config=config()), **options)
    made.build()
    spread(made)
    return made


def states(policy, made, given):
    return made.states(given, policy, policy.hidden(given))


@pytest.mark.parametrize("name", ["llama", "phi", "gemma2", "granite"])
def test_the_law_of_the_policy_is_that_of_its_own_logits(name):
    policy, given = model(name), sequences()
    found = states(policy, critic(), given)
    assert found.vocabulary == VOCABULARY
    torch.testing.assert_close(found.policy(slice(2, 9)), dense(policy.net, given)[2:9], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("adapters", [False, True])
def test_the_base_is_the_reference_over_the_vocabulary(adapters):
    actor, given = Actor(model(lora=LoRA(rank=2)) if adapters else model()), sequences()
    reference = AdapterOff() if adapters else FromCheckpoint(model(seed=3))
    reference.build(actor)
    base = base_of(reference, actor, given)
    assert not base(slice(2, 9)).requires_grad
    taken = base(slice(0, 17)).gather(1, given.completion_ids[:, None])[:, 0]
    torch.testing.assert_close(taken, reference.token_logps(given), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(taken, actor.token_logps(given).values, atol=1e-2)


def test_values_are_linear_functions_of_the_critics_states():
    made, given = critic(), sequences()
    found, own = states(model(), made, given), made.model.hidden(given)
    both = torch.stack([own @ made.head.weight[i].T + made.head.bias[i] for i in range(2)])
    assert not torch.allclose(both[0], both[1])
    torch.testing.assert_close(found.critic(slice(1, 6)), both.amin(0)[1:6])
    each = torch.arange(17)
    torch.testing.assert_close(found.taken(given.completion_ids), both[:, each, given.completion_ids])


def test_only_the_policy_and_what_was_taken_have_a_gradient():
    policy, made, given = model(), critic(), sequences()
    found = states(policy, made, given)
    rows = slice(0, 5)
    assert not found.critic(rows).requires_grad and not found.target(rows).requires_grad
    found.taken(given.completion_ids).square().sum().backward()
    assert all(weight.grad is not None for weight in made.parameters())
    assert all(weight.grad is None for weight in policy.parameters())
    found.policy(rows)[:, 3].sum().backward()
    assert all(weight.grad is not None for weight in policy.parameters())


def test_the_two_critics_are_drawn_apart():
    made = SoftCritic(LanguageModel(config=config()))
    made.build()
    assert not torch.allclose(*made.head.weight)


def test_the_slow_copy_follows_and_is_no_part_of_the_module():
    made, given = SoftCritic(LanguageModel(config=config()), rate=0.25), sequences()
    made.build()
    (copied,) = made._held
    before = [weight.clone() for weight in copied.parameters()]
    assert [name for name, _ in made.named_parameters()] == [name for name, _ in copied.named_parameters()]
    assert len(list(made.modules())) == len(list(copied.modules()))
    assert not any(weight.requires_grad for weight in copied.parameters())
    found, rows = states(model(), made, given), slice(0, 17)
    assert torch.equal(found.target(rows), found.critic(rows))
    spread(made)
    made.after_update()
    for old, slow, own in zip(before, copied.parameters(), made.parameters(), strict=True):
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * own)
    made.double()
    assert all(weight.dtype == torch.float64 for weight in (*made.parameters(), *copied.parameters()))


def test_the_slow_copy_comes_back_from_its_state():
    made, given = critic(), sequences()
    made.after_update()
    again = critic(seed=2)
    again.load_state_dict(made.state_dict())
    again.load_target_state(made.target_state())
    found, expected = (states(model(), one, given) for one in (again, made))
    rows = slice(0, 17)
    assert torch.equal(found.target(rows), expected.target(rows))
    assert torch.equal(found.critic(rows), expected.critic(rows))
    assert not torch.equal(found.target(rows), found.critic(rows))


def test_weights_below_adapters_are_shared_with_the_slow_copy_and_not_kept(tmp_path):
    torch.manual_seed(0)
    made = SoftCritic(LanguageModel(config=config(), lora=LoRA(rank=2)))
    made.build()
    (copied,) = made._held
    pairs = zip(made.named_parameters(), copied.named_parameters(), strict=True)
    frozen = {name for name, own in made.named_parameters() if not own.requires_grad}
    assert frozen and {name for (name, own), (_, slow) in pairs if own is slow} == frozen
    assert set(made.target_state()) == {name for name, _ in made.named_parameters()} - frozen
    made.after_update()


class Largest(TorchDispatchMode):
    """The most rows of [..., rows, V] that any operation made, the [V, V] or [D, V] of weights aside."""

    def __init__(self):
        super().__init__()
        self.rows = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            words = isinstance(one, torch.Tensor) and one.ndim >= 2 and one.shape[-1] == VOCABULARY
            self.rows = max(self.rows, one.shape[-2] if words and one.shape[-2] not in (16, 2) else 0)
        return made


def test_losses_make_no_tensor_of_all_tokens_and_words(monkeypatch):
    monkeypatch.setattr(linear_logps, "CHUNK_ELEMENTS", 3 * VOCABULARY)
    policy, made, given = model(), critic(), sequences()
    batch = ScoredBatch(given, torch.randn(5))
    with Largest() as seen:
        evidence = Evidence(soft_q=states(policy, made, given))
        sum(term.total for term in (SoftPolicy() + SoftQ())(evidence, batch).terms).backward()
    assert seen.rows == 3
    assert all(weight.grad is not None for weight in (*policy.parameters(), *made.parameters()))


def test_under_autocast_losses_and_gradients_are_in_single_precision():
    policy, made, given = model(), critic(), sequences()
    batch = ScoredBatch(given, torch.randn(5))

    def slopes(enabled):
        for part in (policy, made):
            part.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            evidence = Evidence(soft_q=states(policy, made, given))
            terms = (SoftPolicy() + SoftQ())(evidence, batch).terms
        assert all(term.total.dtype == torch.float32 for term in terms)
        sum(term.total for term in terms).backward()
        return [weight.grad.clone() for weight in (policy.output_head.weight, made.head.weight)]

    for coarse, fine in zip(slopes(True), slopes(False), strict=True):
        assert coarse.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(coarse.flatten(), fine.flatten(), dim=0) > 0.99


def test_what_cannot_serve_is_refused():
    with pytest.raises(InputError, match="rate is 0; it is above 0"):
        SoftCritic("lit_rlhf/reviews", rate=0)
    with pytest.raises(InputError, match="knows 23 tokens and the actor's output head has 31"):
        states(_larger(), critic(), sequences())


def _larger():
    found = LanguageModel(config=config(vocab_size=31))
    found.build()
    return found
