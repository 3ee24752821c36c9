"""The likelihood of other texts in every update: its gradient, its weight, its items."""

import pytest
import torch
from algorithms.runs import data, made, run, weights

from lit_rlhf.algorithms.ptx import Ptx
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.errors import InputError
from lit_rlhf.losses.pra import PRA

LR, COEFFICIENT = 0.5, 0.3


def texts(seed=5):
    return Reviews(batch_size=3, size=12, val_size=0, seed=seed)


def trained(updates, **parts):
    """How far the weights go in so many updates, each of one iteration."""
    algorithm = made(lr=LR, **parts)
    algorithm.configure_model()
    before = weights(algorithm)
    run(algorithm, updates)
    return {name: weight - before[name] for name, weight in weights(algorithm).items()}


def likelihood(position):
    """The gradient of the mean negative log-likelihood of a token of an item, by the weights before any update."""
    algorithm = made()
    algorithm.configure_model()
    given = texts()
    Ptx(given).attach(algorithm)
    item = given.item(position)
    tokens = sum(len(batch.sequences.completion_ids) for batch in item)
    loss = -sum(algorithm.actor.token_logps(batch.sequences).values.sum() for batch in item) / tokens
    loss.backward()
    return {name: weight.grad for name, weight in algorithm.named_parameters() if weight.requires_grad}


def test_an_update_goes_as_much_further_as_the_likelihoods_gradient_says():
    without, with_texts = trained(1), trained(1, ptx=Ptx(texts(), COEFFICIENT))
    slope = likelihood(0)
    for name, move in with_texts.items():
        expected = -LR * COEFFICIENT * slope[name]
        assert torch.allclose(move - without[name], expected, atol=2e-6, rtol=1e-4), name
    assert max(float(one.abs().max()) for one in slope.values()) > 1e-2


def test_every_update_has_an_item_of_its_own(monkeypatch):
    asked, item = [], Reviews.item
    ptx = Ptx(texts(), COEFFICIENT)
    monkeypatch.setattr(ptx.data, "item", lambda *given: asked.append(given) or item(ptx.data, *given))
    run(made(ptx=ptx, epochs=2, minibatches=2), 2)
    assert asked == [(update, 0, 1) for update in range(8)]


def test_it_counts_neither_as_rollout_nor_in_the_ratio(monkeypatch):
    recorded = []
    for ptx in (None, Ptx(texts(), COEFFICIENT)):
        algorithm = made(ptx=ptx)
        run(algorithm, 1)
        recorded.append(algorithm.recorder.flush(torch.device("cpu")))
    same = recorded[0].keys() - {"loss", "grad_norm"}
    assert {"rollout/tokens", "policy_kl", "ratio", "length", "logp", "tokens"} <= same
    assert {name: recorded[1][name] for name in same} == pytest.approx({name: recorded[0][name] for name in same}, abs=1e-6)
    terms = [recorded[1][name] for name in recorded[1].keys() - same if name.startswith("loss/")]
    assert len(terms) == 2 and recorded[1]["loss"] == pytest.approx(sum(terms))


def test_texts_that_the_loss_cannot_read_are_refused_before_any_update():
    algorithm = made(ptx=Ptx(WithoutPairs(size=12, val_size=0), loss=PRA(1.0)))
    with pytest.raises(InputError, match="no preference in these rows"):
        run(algorithm, 1)
    assert algorithm.items_done == 0


def test_a_coefficient_that_unlearns_is_refused():
    with pytest.raises(InputError, match="^model.ptx.coefficient: -1.0, expected a number above 0"):
        Ptx(texts(), -1.0)


class WithoutPairs(Reviews):
    def load(self, split):
        raise InputError(f"data: no {self.signal} in these rows")
