"""A reference whose log-probs are computed once and kept in a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.language_model import LanguageModel
from lit_rlhf.components.reference import EMA, FrozenCopy, Reference
from lit_rlhf.errors import InputError
from lit_rlhf.types import Batch, Sequences

FOLDER = Path("runs/reference_logps")
_DIGEST = 16


class Cached(Reference):
    """Log-probs of another reference, computed once per sequence, kept in memory and in a file.

    A sequence is found by a hash of its prompt and completion ids, so no order, template, length limit or split of the
    data can make an entry stale. The file is bound to the weights they were computed with, bit by bit, and to the
    precision of the arithmetic. A sequence that is not there is computed by the inner reference, kept and counted.
    The inner reference stays on the CPU until it is needed.

    Args:
        path: the file (safetensors), made where it does not exist; one in `runs/reference_logps`, named by the hash,
            when None.
        reference: what computes them; `FrozenCopy()` when None.

    Raises:
        InputError: the inner reference changes during training, or the file belongs to another model or precision.
    """

    mode = "cached"

    def __init__(self, path: str | Path | None = None, reference: Reference | None = None) -> None:
        if isinstance(reference, EMA | Cached):
            raise InputError(
                f"model.reference: Cached keeps log-probs of a reference that stays as it is, and {type(reference).__name__} "
                "does not need or allow that; use FrozenCopy, AdapterOff or FromCheckpoint"
            )
        self.given, self.inner = path, reference or FrozenCopy()
        self.computed = 0
        """Sequences that the inner reference had to compute so far."""
        self._kept: dict[bytes, Tensor] = {}
        self._read: str | None = None
        self._device: torch.device | str = "cpu"
        self._placed = False

    @property
    def equal_at_start(self) -> bool:
        return self.inner.equal_at_start

    def build(self, actor: Actor) -> None:
        self.inner.build(actor)
        self._weights = fingerprint(getattr(self.inner, "model", actor.model))

    def to(self, device: torch.device | str) -> None:
        self._device, self._placed = device, False

    def token_logps(self, sequences: Sequences) -> Tensor:
        device = sequences.completion_ids.device
        self._open(device)
        names = digests(sequences)
        missing = [index for index, name in enumerate(names) if name not in self._kept]
        if missing:
            self._compute(sequences.select(torch.tensor(missing, device=device)), [names[index] for index in missing])
        return torch.cat([self._kept[name] for name in names]).to(device)

    def precompute(self, batches: Iterable[Batch]) -> None:
        """Computes what the file does not have yet and writes it, the shares of all ranks together."""
        for batch in batches:
            self.token_logps(batch.sequences.to(self._device))
        self.save()

    def save(self) -> Path:
        """Writes all that is kept; with several ranks, what all of them keep. Every rank calls it."""
        self._open(torch.device(self._device))
        path, ranks = self._path, dist.get_world_size() if dist.is_initialized() else 1
        if ranks == 1:
            _write(path, self._kept, self._read)
            return path
        rank = dist.get_rank()
        _write(_of_rank(path, rank), self._kept, self._read)
        dist.barrier()
        for other in range(ranks):
            self._kept |= _load(_of_rank(path, other), self._read)
        dist.barrier()
        _of_rank(path, rank).unlink()
        if rank == 0:
            _write(path, self._kept, self._read)
        dist.barrier()
        return path

    def _compute(self, sequences: Sequences, names: list[bytes]) -> None:
        if not self._placed:
            self.inner.to(self._device)
            self._placed = True
        values = self.inner.token_logps(sequences).float().cpu()
        self._kept |= dict(zip(names, values.split(sequences.completion_lengths.tolist()), strict=True))
        self.computed += len(names)

    def _open(self, device: torch.device) -> None:
        """Reads the file at the first call, when the precision of the arithmetic is known."""
        arithmetic = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else "as stored"
        identity = f"{self._weights} {arithmetic}"
        if self._read is None:
            self._read = identity
            name = hashlib.blake2b(identity.encode(), digest_size=_DIGEST).hexdigest()
            self._path = Path(self.given or FOLDER / f"{name}.safetensors")
            if self._path.exists():
                self._kept = _load(self._path, identity)
        elif self._read != identity:
            raise InputError(
                f"model.reference: the cached log-probs were computed with {self._read.split(' ', 1)[1]} arithmetic and "
                f"are asked for with {arithmetic}"
            )


@torch.no_grad()
def fingerprint(model: LanguageModel | nn.Module) -> str:
    """A hash of every bit of the weights: name, shape and two sums of the bit patterns of each, modulo 2^64."""
    found = hashlib.blake2b(digest_size=_DIGEST)
    for name, weight in sorted(model.state_dict().items()):
        first = second = 0
        for start, part in _words(weight):
            place = torch.arange(start, start + len(part), device=part.device) * 2 + 1
            first, second = first + int(part.sum()), second + int((part * place).sum())
        found.update(f"{name} {tuple(weight.shape)} {weight.dtype} {first % 2**64} {second % 2**64}".encode())
    return found.hexdigest()


def digests(sequences: Sequences) -> list[bytes]:
    """A hash of the prompt and completion ids of each sequence."""
    prompts = sequences.prompt_ids.cpu().split(sequences.prompt_lengths.tolist())
    completions = sequences.completion_ids.cpu().split(sequences.completion_lengths.tolist())
    return [
        hashlib.blake2b(
            len(prompts[prompt]).to_bytes(8, "little") + _bytes(prompts[prompt]) + _bytes(completion), digest_size=_DIGEST
        ).digest()
        for prompt, completion in zip(sequences.prompt_of.tolist(), completions, strict=True)
    ]


def _bytes(ids: Tensor) -> bytes:
    return ids.to(torch.int64).numpy().tobytes()


def _words(weight: Tensor, chunk: int = 2**22) -> Iterable[tuple[int, Tensor]]:
    """The bit patterns as integers, a chunk at a time, each with the index of its first one."""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.element_size()]
    flat = weight.detach().reshape(-1)
    for start in range(0, len(flat), chunk):
        yield start, flat[start : start + chunk].contiguous().view(integers).long()


def _of_rank(path: Path, rank: int) -> Path:
    return path.with_name(f".{path.name}.rank{rank}")


def _write(path: Path, kept: Mapping[bytes, Tensor], identity: str) -> None:
    names = sorted(kept)
    tensors = {
        "digests": torch.frombuffer(bytearray(b"".join(names)), dtype=torch.uint8) if names else torch.empty(0, dtype=torch.uint8),
        "lengths": torch.tensor([len(kept[name]) for name in names], dtype=torch.int64),
        "values": torch.cat([kept[name] for name in names]) if names else torch.empty(0),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(tensors, temporary, metadata={"identity": identity})
    os.replace(temporary, path)


def _load(path: Path, identity: str) -> dict[bytes, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("identity")
            digest, lengths, values = (file.get_tensor(name) for name in ("digests", "lengths", "values"))
    except Exception as error:  # safetensors has an exception of its own per kind of damage
        raise InputError(f"model.reference: {path} is no file of reference log-probs: {error}") from error
    if found != identity:
        raise InputError(
            f"model.reference: {path} holds log-probs of another model or precision (it says {found}, this is {identity}); "
            "name another path, or remove the file"
        )
    packed = digest.numpy().tobytes()
    names = [packed[start : start + _DIGEST] for start in range(0, len(packed), _DIGEST)]
    return dict(zip(names, values.split(lengths.tolist()), strict=True))
