"""lit_rlhf: aligning language models with feedback, on PyTorch Lightning."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lit_rlhf")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.1.0"
