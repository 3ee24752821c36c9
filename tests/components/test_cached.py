"""Cached log-probs: the same numbers, computed once, bound to the weights, whatever the order of the data."""

import dataclasses

import pytest
import torch
import torch.multiprocessing as mp
from components.tiny import model, sequences, spread
from safetensors.torch import save_file

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.cached import Cached, digests, fingerprint
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.lora import LoRA
from lit_rlhf.components.reference import EMA, AdapterOff, FrozenCopy
from lit_rlhf.errors import InputError
from lit_rlhf.types import ScoredBatch


def actor(seed=0):
    part = Actor(model(seed=seed))
    part.build()
    return part


def batch(which=None):
    given = sequences()
    given = given if which is None else given.select(torch.tensor(which))
    return ScoredBatch(given, torch.zeros(len(given.completion_lengths)))


def test_what_is_written_is_read_and_nothing_is_computed_again(tmp_path):
    path, part = tmp_path / "logps", actor()
    first = Cached(path)
    first.build(part)
    first.precompute([batch([0, 1]), batch([2, 3, 4]), batch([1])])
    assert first.computed == 5
    expected = part.token_logps(sequences()).values
    again = Cached(str(path))
    again.build(part)
    order = torch.tensor([3, 0, 4])
    found = again.token_logps(sequences().select(order))
    lengths = sequences().completion_lengths.tolist()
    expected = torch.cat([expected.split(lengths)[index] for index in order])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    again.precompute([batch()])
    assert again.computed == 0 and len(list(path.iterdir())) == 1
    assert first.told() == f"5 sequences computed, 0 read from {path}"
    assert again.told() == f"0 sequences computed, 5 read from {path}"


def test_what_is_missing_is_computed_kept_and_counted(tmp_path):
    part, cached = actor(), Cached(tmp_path / "logps")
    cached.build(part)
    cached.precompute([batch([0, 1])])
    spread(part.model.net)
    start = cached.token_logps(sequences())
    assert cached.computed == 5
    assert torch.equal(cached.token_logps(sequences()), start) and cached.computed == 5
    plain = FrozenCopy()
    plain.model = cached.inner.model
    torch.testing.assert_close(start, plain.token_logps(sequences()), atol=1e-6, rtol=1e-6)
    assert not start.requires_grad


def test_what_is_computed_on_the_way_is_written_with_a_checkpoint(tmp_path):
    path, part = tmp_path / "logps", actor()
    for which, files in (([0, 1], 1), ([0, 1], 1), ([1, 2], 2)):
        cached = Cached(path)
        cached.build(part)
        cached.token_logps(batch(which).sequences)
        assert cached.state_dict() == {} and len(list(path.iterdir())) == files
        cached.state_dict()
        assert len(list(path.iterdir())) == files
    assert cached.computed == 1


def test_the_same_sequence_twice_is_computed_once_per_call(tmp_path):
    cached = Cached(tmp_path / "logps")
    cached.build(actor())
    twice = cached.token_logps(sequences().select(torch.tensor([1, 1])))
    assert twice.tolist() == [twice[0], twice[0]]
    cached.write()
    again = Cached(tmp_path / "logps")
    again.build(actor())
    assert torch.equal(again.token_logps(sequences().select(torch.tensor([1]))), twice[:1])


def test_adapters_off_is_bound_to_the_base_alone(tmp_path):
    for seed in (0, 1):
        torch.manual_seed(seed)
        part = Actor(LanguageModel("lit_rlhf/reviews", lora=LoRA(rank=2)))
        part.build()
        cached = Cached(tmp_path / "logps", AdapterOff())
        cached.build(part)
        cached.precompute([ScoredBatch(sequences(16), torch.zeros(5))])
        assert cached.computed == (5 if seed == 0 else 0) and cached.equal_at_start


def test_without_a_path_the_file_is_named_by_the_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for part in (actor(), actor(), actor(seed=1)):
        cached = Cached()
        cached.build(part)
        cached.precompute([batch([0])])
        names.append((cached.folder, cached.computed))
        assert list(cached.folder.iterdir())
    assert names[0][0] == names[1][0] != names[2][0] and names[0][0].parent.as_posix() == "runs/reference_logps"
    assert [computed for _, computed in names] == [1, 0, 1]


def test_a_file_of_other_weights_is_refused(tmp_path):
    path, part = tmp_path / "logps", actor()
    cached = Cached(path)
    cached.build(part)
    cached.precompute([batch()])
    with torch.no_grad():
        next(part.parameters()).view(-1)[0] += 1e-6
    changed = Cached(path)
    changed.build(part)
    with pytest.raises(InputError, match="log-probs of another model or precision"):
        changed.token_logps(sequences())


def test_a_file_of_another_precision_is_refused(tmp_path):
    path, part = tmp_path / "logps", actor()
    cached = Cached(path)
    cached.build(part)
    cached.precompute([batch()])
    again = Cached(path)
    again.build(part)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(InputError, match="another model or precision"):
            again.token_logps(sequences())
        with pytest.raises(InputError, match="with as stored arithmetic and are asked for with torch.bfloat16"):
            cached.token_logps(sequences())


def test_another_file_is_refused(tmp_path):
    path, inside = tmp_path / "logps", tmp_path / "logps" / "x.safetensors"
    cached = Cached(path)
    cached.build(actor())
    path.mkdir()
    inside.write_bytes(b"x")
    with pytest.raises(InputError, match="x.safetensors is no file of reference log-probs"):
        cached.token_logps(sequences())
    save_file({"a": torch.zeros(1)}, inside)
    with pytest.raises(InputError, match="x.safetensors is no file of reference log-probs"):
        precompute_anew(path)
    inside.unlink()
    path.rmdir()
    path.touch()
    with pytest.raises(InputError, match="is a file; log-probs are kept in a folder"):
        precompute_anew(path)


def precompute_anew(path):
    cached = Cached(path)
    cached.build(actor())
    cached.precompute([batch()])


def test_a_reference_that_moves_is_refused():
    for reference in (EMA(), Cached()):
        with pytest.raises(InputError, match="stays as it is"):
            Cached(reference=reference)


def test_the_fingerprint_sees_every_bit():
    part = actor()

    def now():
        return fingerprint(part.model.state_dict())

    before = now()
    assert now() == before == fingerprint(actor().model.state_dict())
    weights = [weight for weight in part.model.parameters() if weight.numel() > 1]
    with torch.no_grad():
        for weight in weights:
            flat = weight.view(-1)
            kept = flat.clone()
            flat[-1] = torch.nextafter(flat[-1], flat[-1] + 1)
            assert now() != before
            flat.copy_(kept)
            flat[[0, 1]] = flat[[1, 0]]
            assert now() != before
            flat.copy_(kept)
    assert now() == before
    part.model.to(torch.bfloat16)
    assert now() != before


def test_a_sequence_is_its_prompt_and_its_completion():
    given = sequences()
    names = digests(given)
    assert len(set(names)) == 5 and digests(given.select(torch.tensor([3, 1]))) == [names[3], names[1]]
    weighted = dataclasses.replace(given, weight=torch.zeros(len(given.completion_ids)))
    assert digests(weighted) == names
    moved = dataclasses.replace(  # the same row of tokens, cut elsewhere
        given.select(torch.tensor([0])),
        prompt_ids=torch.cat([given.prompt_ids[-3:], given.completion_ids[:1]]), prompt_lengths=torch.tensor([4]),
        completion_ids=given.completion_ids[1:4], completion_lengths=torch.tensor([3]),
    )
    assert digests(moved)[0] != names[0]


def share(rank, folder):
    """One of two ranks precomputes its own rows and then has the other's."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    cached = Cached(f"{folder}/logps")
    cached.build(actor())
    cached.precompute([batch([0, 1, 2])] if rank == 0 else [batch([3, 4])])
    assert cached.computed == (3 if rank == 0 else 2)
    cached.token_logps(sequences())
    assert cached.computed == (3 if rank == 0 else 2)
    torch.distributed.destroy_process_group()


def test_ranks_share_their_work(tmp_path):
    mp.spawn(share, (str(tmp_path),), nprocs=2)
    cached = Cached(tmp_path / "logps")
    cached.build(actor())
    cached.token_logps(sequences())
    assert cached.computed == 0 and len(list((tmp_path / "logps").iterdir())) == 2
