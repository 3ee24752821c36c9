"""What pairs weigh, against formulas; and that nothing but the pairs' weights changes."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokens import byte_tokenizer

from lit_rlhf.data import grammar
from lit_rlhf.data.designs import InverseSlope, InverseVariance, PairDesign, PairLaw, PairTable, Uniform, design_of
from lit_rlhf.data.modules import Files
from lit_rlhf.data.records import Group, Pair
from lit_rlhf.data.reviews import Reviews
from lit_rlhf.errors import InputError


def table(probability, weight=None, gap=None) -> PairTable:
    p = np.array(probability, dtype=float)
    own = np.ones_like(p) if weight is None else np.array(weight, dtype=float)
    groups = [Group(np.array([1]), (), row=f"row {k}") for k in range(len(p))]
    return PairTable(p, np.zeros_like(p) if gap is None else np.array(gap), own, np.arange(len(p) + 1), groups)


NEEDS = {"gap": {"chosen", "reward_gap"}, "preference": {"chosen"}, "reward": {"reward"}}
WORDS = SimpleNamespace(
    convert_tokens_to_ids=lambda tokens: [grammar.TOKENS.index(token) for token in tokens], decode=grammar.decoded
)


def reviews(signal: str, **arguments) -> Reviews:
    data = Reviews(**{"batch_size": 8, "size": 64, "val_size": 16} | arguments)
    data.attach(SimpleNamespace(tokenizer=WORDS, needs=frozenset(NEEDS[signal])))
    data.setup("fit")
    return data


P = np.array([0.5, 0.6, 0.9, 0.3])
H = np.array([0.0, -1.0, 3.0, 2.0])


def test_inverse_variance_is_its_formula_with_mean_one():
    exact = 1 / (P * (1 - P))
    np.testing.assert_allclose(PairLaw(InverseVariance(), table(P)).weight, exact / exact.mean())


def test_the_inverse_slope_is_its_formula_with_mean_one():
    law = PairLaw(InverseSlope(), table(P))
    np.testing.assert_array_equal(law.weight, 1.0)
    law.follow(H)
    slope = np.exp(-H) / (1 + np.exp(-H)) ** 2
    np.testing.assert_allclose(law.weight, (1 / slope) / (1 / slope).mean())


def test_the_slope_of_any_margin_is_bounded():
    law = PairLaw(InverseSlope(most=4.0), table(P))
    law.follow(np.array([0.0, 1e4, -1e4, 0.0]))
    np.testing.assert_allclose(law.weight, np.array([1, 4, 4, 1]) / 2.5)
    np.testing.assert_allclose(PairLaw(InverseVariance(most=2.0), table([0.5, 1 - 1e-9])).weight, [2 / 3, 4 / 3])


def test_weights_multiply_those_of_the_data_and_keep_their_sum():
    own = np.array([2.0, 0.0, 1.0, 4.0])
    law = PairLaw(InverseVariance(), table(P, own))
    assert (own * law.weight).sum() == pytest.approx(own.sum())
    np.testing.assert_allclose(law.weight * P * (1 - P), (law.weight * P * (1 - P))[0])


def test_uniform_weighs_all_alike():
    assert PairLaw(Uniform(), table(P)).weight.tolist() == [1.0] * 4 and design_of("uniform") == Uniform()


def test_inverse_variance_has_the_second_eigenvalue_of_the_theory():
    reward = np.array([0.0, 0.3, -0.2, 0.6, 0.1])
    first, second = np.triu_indices(5, 1)
    p = 1 / (1 + np.exp(reward[second] - reward[first]))
    incidence = np.eye(5)[first] - np.eye(5)[second]

    def second_eigenvalue(weight: np.ndarray) -> float:
        law = weight / weight.sum() * p * (1 - p)
        return float(np.linalg.eigvalsh(incidence.T @ (incidence * law[:, None]))[1])

    best = second_eigenvalue(PairLaw(InverseVariance(), table(p)).weight)
    assert best == pytest.approx(5 / (1 / (p * (1 - p))).sum()) and best > second_eigenvalue(np.ones(10))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_certain_labels_are_refused_with_the_row_and_what_to_do(label):
    with pytest.raises(InputError, match="row 1: data.design .* 0 more of 2 pairs is 0 or 1.*data.labels=soft.*sampler"):
        PairLaw(InverseVariance(), table([0.7, label]))


@pytest.mark.parametrize("design", [InverseVariance, InverseSlope])
def test_a_bound_is_above_one(design):
    with pytest.raises(InputError, match="most: 1, expected more than 1"):
        design(most=1)


@dataclasses.dataclass
class Given(PairDesign):
    weights: tuple

    def __call__(self, pairs, margin):
        return np.array(self.weights)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (1.0, float("nan")), (0.0, 0.0)])
def test_a_design_of_ones_own_is_held_to_numbers(weights):
    with pytest.raises(InputError, match="Given.*expected one each, finite"):
        PairLaw(Given(weights), table([0.7, 0.6]))


def test_an_unknown_design_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="data.design: 'variance', expected uniform, inverse_variance, sampler"):
        reviews("preference", design="variance")


# ---- in a data module


def weighed(data) -> dict[tuple, float]:
    """The weight of every training pair of an epoch, by its row and ends."""
    found = {}
    items = data._items("train")
    for position in range(len(items)):
        for part, batch in zip(items.micro_batches(position), items[position], strict=True):
            rows = [items.groups[index].row for index in part.groups]
            where = [(rows[int(p)], int(a), int(b)) for p, a, b in zip(batch.sequences.prompt_of[batch.chosen], *_places(batch), strict=True)]
            found |= dict(zip(where, batch.pair_weight.tolist(), strict=True))
    return found


def _places(batch):
    first = torch.searchsorted(batch.sequences.prompt_of.contiguous(), batch.sequences.prompt_of)
    return batch.chosen - first[batch.chosen], batch.rejected - first[batch.rejected]


def test_batches_have_the_weights_whatever_the_micro_batches():
    whole = weighed(reviews("preference", design="inverse_variance"))
    assert whole == weighed(reviews("preference", design="inverse_variance", micro_batch_tokens=64))
    assert np.mean(list(whole.values())) == pytest.approx(1) and len(whole) == 64 * 6
    (batch,) = reviews("preference", design="inverse_variance").item(0)
    scaled = batch.pair_weight * batch.probability * (1 - batch.probability)
    torch.testing.assert_close(scaled, scaled[:1].expand_as(scaled))


def test_uniform_batches_and_validation_have_none():
    (batch,) = reviews("preference").item(0)
    assert batch.weight is None
    (batch,) = next(iter(reviews("preference", design="inverse_variance").val_dataloader()))
    assert batch.weight is None


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_share_the_weights_of_one(ranks):
    data = reviews("preference", design=InverseVariance(most=3.0), size=60)
    alone = torch.sort(data.item(2)[0].pair_weight).values
    shares = [batch.pair_weight for rank in range(ranks) for batch in data.item(2, rank, ranks)]
    torch.testing.assert_close(torch.sort(torch.cat(shares)).values, alone, rtol=0, atol=0)


@pytest.mark.parametrize("labels", ["soft", "sampled", "hard"])
def test_the_pairs_of_the_built_in_task_are_those_of_its_groups(labels):
    groups = reviews("gap", labels=labels).groups("train")
    same(groups.table, PairTable.of(groups))


def same(found: PairTable, expected: PairTable) -> None:
    for name in ("probability", "gap", "weight", "start"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)


def files(tmp_path, rows, **arguments) -> Files:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = Files(str(path), cache_dir=str(tmp_path / "cache"), **arguments)
    data.attach(SimpleNamespace(needs=frozenset(NEEDS["preference"]), tokenizer=byte_tokenizer()))
    data.setup("fit")
    return data


SOFT = [{"prompt": "Q:", "chosen": " yes", "rejected": f" no{n}", "probability": 0.5 + 0.05 * n, "weight": 1 + n % 3} for n in range(8)]


def test_the_pairs_of_files_are_those_of_their_groups(tmp_path):
    mixed = [SOFT[0] | {"gap": 0.5}, SOFT[1] | {"gap": None}]
    for rows in (SOFT, mixed):
        groups = files(tmp_path, rows).groups("train")
        same(groups.pair_table, PairTable.of(groups))


def test_files_are_weighed_and_the_report_says_how(tmp_path):
    data = files(tmp_path, SOFT, design="inverse_variance", batch_size=8)
    (batch,) = data.item(0)
    own = torch.tensor([1.0 + round((float(p) - 0.5) / 0.05) % 3 for p in batch.probability])
    law = batch.pair_weight / own * batch.probability * (1 - batch.probability)
    torch.testing.assert_close(law, law[:1].expand_as(law))
    assert batch.pair_weight.sum().item() == pytest.approx(float(own.sum()))
    assert "note: pairs are weighed by InverseVariance(most=25.0): 0." in data.report.text()


def test_a_hard_file_names_its_row(tmp_path):
    with pytest.raises(InputError, match="rows.jsonl:1: data.design"):
        files(tmp_path, [{"prompt": "Q:", "chosen": " a", "rejected": " b"}], design="inverse_variance")


def test_a_stream_and_a_loss_without_pairs_are_refused(tmp_path):
    with pytest.raises(InputError, match="a stream does not have; set data.streaming to false"):
        files(tmp_path, SOFT, design="sampler", streaming=True)
    with pytest.raises(InputError, match=r"its signal is reward"):
        reviews("reward", design="inverse_variance")


def test_every_pair_is_passed_once_with_its_number():
    data = reviews("preference", design="sampler", size=20, micro_batch_tokens=40)
    seen = {}
    for batch, numbers in data.pair_pass():
        assert batch.weight is None
        seen |= dict(zip(numbers.tolist(), batch.probability.tolist(), strict=True))
    assert sorted(seen) == list(range(data.training_pairs)) == list(range(20 * 6))
    np.testing.assert_allclose([seen[k] for k in range(120)], PairTable.of(data.groups("train")).probability, rtol=1e-6)


def test_margins_weigh_the_items_that_follow_and_are_kept_in_the_state():
    data, other = (reviews("preference", design="sampler", size=20) for _ in range(2))
    margin = np.linspace(-3, 3, 120)
    before = weighed(data)
    data.follow(margin)
    assert set(before.values()) == {1.0} and weighed(data) != before
    other.load_state_dict(data.state_dict())
    assert weighed(other) == weighed(data)


def test_another_design_is_another_plan():
    state = reviews("preference", design="inverse_variance").state_dict()
    with pytest.raises(InputError, match="design was InverseVariance.most=25.0. and is Uniform"):
        reviews("preference").load_state_dict(state)


def test_pairs_of_a_group_keep_what_else_they_are():
    data = reviews("preference", design="inverse_variance")
    plain, heavy = data.groups("train")[3], data._items("train").groups[3]
    assert tuple(dataclasses.replace(pair, weight=1.0) for pair in heavy.pairs) == plain.pairs
    assert all(isinstance(pair, Pair) for pair in heavy.pairs) and heavy.row == plain.row
