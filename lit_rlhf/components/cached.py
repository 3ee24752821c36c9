"""A reference whose log-probs are computed once and kept in a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lit_rlhf.components.actor import Actor
from lit_rlhf.components.reference import EMA, FrozenCopy, Reference
from lit_rlhf.errors import InputError
from lit_rlhf.types import Batch, Sequences

FOLDER = Path("runs/reference_logps")
_DIGEST = 16


class Cached(Reference):
    """Log-probs of another reference, computed once per sequence, kept in memory and on disk.

    A sequence is found by a hash of its prompt and completion ids, so no order, template, length limit or split of the
    data can make an entry stale. What is on disk is bound to the weights it was computed with, bit by bit, and to the
    precision of the arithmetic. A sequence that is not there is computed by the inner reference, kept, counted, and
    written with the next checkpoint. The inner reference stays on the CPU until it is needed.

    Args:
        path: a folder of safetensors files to which every process adds its own, made where it does not exist; one in
            `runs/reference_logps`, named by the hash, when None.
        reference: what computes them; `FrozenCopy()` when None.

    Raises:
        InputError: the inner reference changes during training, or the folder belongs to another model or precision.
    """

    mode = "cached"

    def __init__(self, path: str | Path | None = None, reference: Reference | None = None) -> None:
        if isinstance(reference, EMA | Cached):
            raise InputError(
                "model.reference: Cached keeps log-probs of a reference that stays as it is, and "
                f"{type(reference).__name__} does not need or allow that; use FrozenCopy, AdapterOff or FromCheckpoint"
            )
        self.given, self.inner = path, reference or FrozenCopy()
        self.computed = 0
        """Sequences that the inner reference had to compute so far."""
        self._kept: dict[bytes, Tensor] = {}
        self._unwritten: list[bytes] = []
        self._identity: str | None = None
        self._device: torch.device | str = "cpu"
        self._placed = False

    @property
    def equal_at_start(self) -> bool:
        return self.inner.equal_at_start

    def check(self, actor: Actor) -> None:
        self.inner.check(actor)

    def build(self, actor: Actor) -> None:
        self.inner.build(actor)
        frozen = {name: weight for name, weight in actor.model.named_parameters() if not weight.requires_grad}
        model = getattr(self.inner, "model", None)
        self._weights = fingerprint(frozen if model is None else model.state_dict())

    def to(self, device: torch.device | str) -> None:
        self._device, self._placed = device, False

    def token_logps(self, sequences: Sequences) -> Tensor:
        device = sequences.completion_ids.device
        self._open(device.type)
        names = digests(sequences)
        missing = [index for index, name in enumerate(names) if name not in self._kept]
        if missing:
            self._compute(sequences.select(torch.tensor(missing, device=device)), [names[index] for index in missing])
        return torch.cat([self._kept[name] for name in names]).to(device)

    def token_kl(self, actor: Actor, sequences: Sequences) -> Tensor | None:
        """Of the inner reference, which is placed for it: what is kept are log-probs of the tokens alone."""
        self._place()
        return self.inner.token_kl(actor, sequences)

    def precompute(self, batches: Iterable[Batch]) -> None:
        """Computes and writes what is not on disk yet; every rank does its share and then has those of all."""
        for batch in batches:
            self.token_logps(batch.sequences.to(self._device))
        self.write()
        if dist.is_initialized():
            dist.barrier()
            self._open(torch.device(self._device).type)
            self._kept |= _load(self.folder, self._identity)

    def write(self) -> None:
        """Adds a file with what was computed since the last one."""
        if self._unwritten:
            _write(self.folder, {name: self._kept[name] for name in self._unwritten}, self._identity)
            self._unwritten = []

    @property
    def folder(self) -> Path:
        """Where it is kept, once a log-prob has been asked for."""
        name = hashlib.blake2b(str(self._identity).encode(), digest_size=_DIGEST).hexdigest()
        return Path(self.given or FOLDER / name)

    def told(self) -> str:
        read = len(self._kept) - self.computed
        return f"{self.computed} sequences computed, {read} read from {self.folder}" if self._kept else ""

    def state_dict(self) -> dict[str, Any]:
        self.write()
        return {}

    def _compute(self, sequences: Sequences, names: list[bytes]) -> None:
        self._place()
        values = self.inner.token_logps(sequences).float().cpu()
        self._kept |= dict(zip(names, values.split(sequences.completion_lengths.tolist()), strict=True))
        self._unwritten += dict.fromkeys(names)
        self.computed += len(names)

    def _place(self) -> None:
        if not self._placed:
            self.inner.to(self._device)
            self._placed = True

    def _open(self, device: str) -> None:
        """Reads the folder at the first call, when the precision of the arithmetic is known."""
        arithmetic = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else "as stored"
        identity = f"{self._weights} {arithmetic}"
        if self._identity is None:
            self._identity = identity
            self._kept = _load(self.folder, identity)
        elif self._identity != identity:
            raise InputError(
                "model.reference: the cached log-probs were computed with "
                f"{self._identity.split(' ', 1)[1]} arithmetic and are asked for with {arithmetic}"
            )


@torch.no_grad()
def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A hash of every bit of the weights: name, shape and two sums of the bit patterns of each, modulo 2^64."""
    found = hashlib.blake2b(digest_size=_DIGEST)
    for name, weight in sorted(weights.items()):
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
    packed = [len(prompt).to_bytes(8, "little") + _bytes(prompt) for prompt in prompts]
    return [
        hashlib.blake2b(packed[prompt] + _bytes(completion), digest_size=_DIGEST).digest()
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


def _write(folder: Path, kept: Mapping[bytes, Tensor], identity: str) -> None:
    packed = b"".join(kept)
    tensors = {
        "digests": torch.frombuffer(bytearray(packed), dtype=torch.uint8),
        "lengths": torch.tensor([len(values) for values in kept.values()]),
        "values": torch.cat(list(kept.values())),
    }
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.blake2b(packed, digest_size=_DIGEST).hexdigest()
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    save_file(tensors, temporary, metadata={"identity": identity})
    os.replace(temporary, folder / f"{name}.safetensors")


def _load(folder: Path, identity: str) -> dict[bytes, Tensor]:
    if folder.is_file():
        raise InputError(f"model.reference: Cached.path {folder} is a file; log-probs are kept in a folder")
    kept: dict[bytes, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        kept |= _load_file(path, identity)
    return kept


def _load_file(path: Path, identity: str) -> dict[bytes, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("identity")
            packed, lengths, values = (file.get_tensor(name) for name in ("digests", "lengths", "values"))
    except Exception as error:  # safetensors has an exception of its own
        raise InputError(f"model.reference: {path} is no file of reference log-probs: {error}") from error
    if found != identity:
        raise InputError(
            f"model.reference: {path} holds log-probs of another model or precision (it says {found}, this is "
            f"{identity}); name another folder, or remove this one"
        )
    joined = packed.numpy().tobytes()
    names = [joined[start : start + _DIGEST] for start in range(0, len(joined), _DIGEST)]
    return dict(zip(names, values.split(lengths.tolist()), strict=True))
