"""Numbers at the head of a page."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """A number: what it is, and what else there is to say of it."""

    label: str
    value: str
    more: str = ""
