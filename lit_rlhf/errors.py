"""What the user got wrong, told in one sentence: the place, what was found, what was expected, what to do."""


class InputError(ValueError):
    """A mistake in what the user gave (a key, a path, a column, a composition). The command line turns it into exit code 2."""
