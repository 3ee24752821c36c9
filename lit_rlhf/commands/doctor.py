"""`python -m lit_rlhf doctor`: what this machine has. Nothing is downloaded and no connection is made."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import Requirement

from lit_rlhf import __version__

FLASH_ATTENTION = Requirement("flash-attn")
"""It is compiled for the machine's CUDA, so no extra of ours installs it."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")
YES = ("1", "ON", "YES", "TRUE")
"""What Hugging Face reads as set."""


@dataclass(frozen=True)
class Package:
    """A package that is asked for, and what is there."""

    wanted: Requirement
    version: str | None
    """Of what is installed."""
    extra: str | None = None
    """The extra of ours that brings it; None for what is always needed."""

    @property
    def fits(self) -> bool:
        """Whether it is there, in a version that is asked for."""
        return self.version is not None and self.wanted.specifier.contains(self.version, prereleases=True)

    def text(self, install: str) -> str:
        """`torch 2.13.0`, or what is wrong and the command that mends it."""
        if self.fits:
            return f"{self.wanted.name} {self.version}"
        found = "missing" if self.version is None else f"{self.version}, expected {self.wanted.specifier}"
        return f"{self.wanted.name} {found}: {install}"


def main(arguments: Sequence[str]) -> None:
    """Prints versions, devices, the choice of precision, what is optional, and whether the hub is used.

    Args:
        arguments: none but `--help`.

    Raises:
        SystemExit: with 1 where a package that is always needed is missing or too old.
    """
    description = "Prints versions, devices, the choice of precision, what is optional, and whether the hub is used."
    argparse.ArgumentParser(prog="python -m lit_rlhf doctor", description=description).parse_args(arguments)
    needed, optional = needed_packages(), optional_packages()
    print("\n".join([
        f"lit_rlhf {__version__}, Python {platform.python_version()}, {platform.platform()}",
        *section("packages", (package.text(f"pip install '{package.wanted}'") for package in needed)),
        *section("devices", devices()),
        *section("optional", (package.text(_install(package)) for package in optional)),
        *section("hub", [hub(os.environ)]),
    ]))
    if not all(package.fits for package in needed):
        raise SystemExit(1)


def section(title: str, rows: Iterator[str] | Sequence[str]) -> list[str]:
    """A heading and what stands below it."""
    return [f"{title}:", *(f"  {row}" for row in rows)]


def needed_packages() -> tuple[Package, ...]:
    """What the package's own metadata asks for."""
    return tuple(Package(wanted, _version(wanted.name)) for wanted, extra in _requirements() if extra is None)


def optional_packages() -> tuple[Package, ...]:
    """What the extras bring, and the attention kernels that `attention: flash_attention_2` asks for."""
    extras = [Package(wanted, _version(wanted.name), extra) for wanted, extra in _requirements() if extra is not None]
    return (*extras, Package(FLASH_ATTENTION, _version(FLASH_ATTENTION.name)))


def devices() -> Iterator[str]:
    """Cores, GPUs, the precision that a run chooses on them, and how processes talk to each other."""
    import torch
    import torch.distributed as dist

    from lit_rlhf.callbacks.precision import choose_precision

    yield f"cpu: {os.cpu_count()} cores, {torch.get_num_threads()} threads used"
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        yield f"gpu {index}: {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, compute capability {gpu.major}.{gpu.minor}"
    if not torch.cuda.is_available():
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
        yield f"gpu: none that torch can use (built for {built})"
    chosen = choose_precision()
    yield f"precision: {chosen.name}, because {chosen.reason}"
    backends = [name for name in ("nccl", "gloo") if dist.is_available() and dist.is_backend_available(name)]
    yield f"several processes: {', '.join(backends) or 'not in this build of torch'}"


def hub(environment: Mapping[str, str]) -> str:
    """Whether models and data sets may be asked for by name."""
    off = [name for name in OFFLINE if environment.get(name, "").upper() in YES]
    if off:
        return f"off-line by {', '.join(off)}: names are looked up among what was downloaded before"
    return f"models and data sets named by hub id are downloaded; {OFFLINE[0]}=1 forbids it"


def _install(package: Package) -> str:
    return "pip install flash-attn, for CUDA" if package.extra is None else f"pip install 'lit_rlhf[{package.extra}]'"


def _requirements() -> Iterator[tuple[Requirement, str | None]]:
    """Every requirement of ours and the extra that it belongs to; nothing in a checkout that was never installed."""
    try:
        own = importlib.metadata.metadata("lit_rlhf")
    except importlib.metadata.PackageNotFoundError:
        return
    for text in own.get_all("Requires-Dist") or ():
        wanted = Requirement(text)
        extras = [name for name in own.get_all("Provides-Extra") or () if _belongs(wanted, name)]
        yield wanted, extras[0] if extras else None


def _belongs(wanted: Requirement, extra: str) -> bool:
    marker = wanted.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
