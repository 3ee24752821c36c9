"""Errors whose sentence says all: the place, what was found, what was expected, what to do."""


class InputError(ValueError):
    """A mistake in what the user gave (a key, a path, a column, a composition). The command line turns it into exit code 2."""


class RunFailed(RuntimeError):
    """A failure while running whose sentence says all, as of a user's function. The command line turns it into exit code 1."""
