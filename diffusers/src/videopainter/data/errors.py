"""The one error class for what a user can put right."""


class InputError(ValueError):
    """A user's mistake, in one line: what was expected, what came, and which file.

    Doors print it on stderr without a traceback and exit with code 2.
    """
