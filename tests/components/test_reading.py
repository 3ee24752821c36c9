"""Where a source is, and what reading it says."""

import socket

import pytest

from lit_rlhf.components import reading
from lit_rlhf.components.reading import described, file_of, quiet, readable, where
from lit_rlhf.errors import InputError


def test_folders_runs_and_hub_names(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert described("org/name") == "org/name" and described(str(tmp_path)) == str(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert described("~") == str(tmp_path)
    for missing in ("./x", "/no/such", "a/b/c", "../y"):
        with pytest.raises(InputError, match="no such folder"):
            described(missing)
    with pytest.raises(InputError, match="runs/x: no such run"):
        described("runs/x")


@pytest.fixture
def lookup(monkeypatch):
    """Whether names can be looked up: call it with the answer."""
    reading._reaches_hub.cache_clear()
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)

    def answers(found):
        def getaddrinfo(*args):
            if not found:
                raise socket.gaierror
            return []

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    yield answers
    reading._reaches_hub.cache_clear()


def test_without_a_network_the_cache_alone_is_asked(lookup, tmp_path):
    lookup(False)
    assert where("org/name") == {"local_files_only": True} and where(str(tmp_path)) == {}


def test_with_a_network_the_hub_is_asked(lookup):
    lookup(True)
    assert where("org/name") == {}


def test_a_proxy_is_trusted(lookup, monkeypatch):
    lookup(False)
    monkeypatch.setenv("https_proxy", "http://proxy")
    assert where("org/name") == {}


def test_a_file_or_none(tmp_path, lookup):
    lookup(False)
    (tmp_path / "here").touch()
    assert file_of(str(tmp_path), "here") == tmp_path / "here"
    assert file_of(str(tmp_path), "not_here") is None and file_of("org/name", "not_here") is None


def test_a_failure_is_one_sentence(tmp_path):
    def fails():
        raise OSError("first line\nsecond line")

    with pytest.raises(InputError, match="^org/name: cannot be read as a hub repository, folder or run: first line$"):
        readable("org/name", fails)
    with pytest.raises(InputError, match="cannot be read as a folder: first line$"):
        readable(str(tmp_path), fails)
    assert readable("org/name", lambda: 3) == 3


def test_quiet_gives_the_settings_back():
    from transformers.utils import logging

    before = logging.is_progress_bar_enabled(), logging.get_verbosity()
    with pytest.raises(ZeroDivisionError), quiet():
        assert not logging.is_progress_bar_enabled()
        raise ZeroDivisionError
    assert (logging.is_progress_bar_enabled(), logging.get_verbosity()) == before
