"""Errors whose sentence says all: the place, what was found, what was expected, what to do."""


class InputError(ValueError):
    """A mistake in what the user gave (a key, a path, a column, a composition). The command line turns it into exit code 2."""


class RunFailed(RuntimeError):
    """A failure while running that needs no traceback, as of a function of the user's. The command line turns it into exit code 1."""
