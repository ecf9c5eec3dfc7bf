"""The one error that a user's input causes: its text says what, what was expected, what was got, and the way out."""


class InputError(ValueError):
    """Something the user gave cannot be used. The command line prints its text as one line and exits with code 2."""


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """The known names, the nearest first when one is near: the tail of an unknown-name message.

    >>> nearest("sofmax", ["relu", "softmax"])
    "Did you mean 'softmax'? Known: relu, softmax."
    >>> nearest("RELU", ["relu", "softmax"])
    "Did you mean 'relu'? Known: relu, softmax."
    """
    import difflib

    folded = {each.lower(): each for each in reversed(known)}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1)
    hint = f"Did you mean {folded[close[0]]!r}? " if close else ""
    return f"{hint}Known: {', '.join(known)}."
