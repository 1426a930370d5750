"""matplotlib's own defaults for a while, whatever the user's settings, and in one thread of a process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, Final

from matplotlib import style

#: matplotlib's settings are the process's: what another thread sets meanwhile would be in the picture.
_ONE: Final = RLock()


@contextmanager
def default_style(**settings: Any) -> Iterator[None]:
    """Draw with matplotlib's defaults.

    Parameters
    ----------
    **settings
        Others than the defaults, with _ for the dots in their names.
    """
    chosen: list[Any] = ["default", {name.replace("_", ".", 1): value for name, value in settings.items()}]
    with _ONE, style.context(chosen):
        yield
