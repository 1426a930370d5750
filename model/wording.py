"""How messages are put: plurals, and what a misspelt word may have meant."""

import difflib
from collections.abc import Iterable


def count(number: int, noun: str, nouns: str = "") -> str:
    """A number of things: `1 chunk`, `2 chunks`, `1,000 galaxies`."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def nearest(word: object, known: Iterable[str]) -> str:
    """The known word that is most like another one, '' if none is.

    Parameters
    ----------
    word : object
        Its text counts, in whatever case.
    known : iterable of str
    """
    words = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(word)[:60].lower(), sorted(words), n=1, cutoff=0.6)
    return words[found[0]] if found and found[0] != str(word) else ""


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """The nearest word as the end of a message, '' if there is none."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""
