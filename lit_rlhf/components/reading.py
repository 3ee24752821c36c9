"""Reading models through transformers: where a source is, quietly, and with one sentence where it fails."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import urllib.parse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from lit_rlhf.components.runs import is_run, part_description
from lit_rlhf.errors import InputError

BUILT_IN = {"lit_rlhf/reviews": "assets/reviews"}
"""Models that the package ships, by the name they are called."""

T = TypeVar("T")


def described(source: str) -> str:
    """The folder or hub name that holds configuration and tokenizer of a source.

    Raises:
        InputError: a folder or run that does not exist, or a run that has no model.
    """
    if source in BUILT_IN:
        return str(Path(__file__).parents[1] / BUILT_IN[source])
    if is_run(source):
        return str(part_description(source))
    folder = os.path.expanduser(source)
    if not os.path.isdir(folder) and (folder.startswith((".", os.path.sep)) or folder.count("/") > 1):
        raise InputError(f"{source}: no such folder")
    return folder


def where(source: str) -> dict[str, bool]:
    """Arguments for `from_pretrained`: without a network, hub repositories are looked for in the cache alone."""
    return {} if os.path.isdir(source) or _reaches_hub() else {"local_files_only": True}


def file_of(source: str, name: str, revision: str | None = None) -> Path | None:
    """A file of a folder or hub repository; None where it has no such file."""
    from transformers.utils import cached_file

    with contextlib.suppress(OSError):
        found = cached_file(
            source, name, revision=revision, _raise_exceptions_for_missing_entries=False, **where(source)
        )
        return None if found is None else Path(found)
    return None


@functools.cache
def _reaches_hub() -> bool:
    """Whether the hub's name can be looked up; a proxy is trusted."""
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlparse(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname, 443)
    except OSError:
        return False
    return True


def readable(source: str, load: Callable[[], T]) -> T:
    """What `load` gives, its complaints about the source in one sentence.

    Raises:
        InputError: it cannot be loaded.
    """
    try:
        return load()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        local = source.startswith((".", "/")) or Path(source).exists()
        kind = "folder" if local else "hub repository, folder or run"
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{source}: cannot be read as a {kind}: {first}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no report while weights are read or written; what matters of it is checked here."""
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of peft and transformers, about each other
            warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")  # peft then sets it itself
            yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
