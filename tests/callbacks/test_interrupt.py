import signal

import pytest

from lit_rlhf.callbacks.interrupt import Interrupt


def test_the_first_is_remembered_and_the_second_stops(capsys):
    interrupt = Interrupt()
    interrupt.install()
    try:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked and "again to stop at once" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        interrupt.remove()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_somebody_elses_handler_stays():
    def own(*_):
        """Does nothing."""

    before = signal.signal(signal.SIGINT, own)
    try:
        interrupt = Interrupt()
        interrupt.install()
        interrupt.remove()
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
