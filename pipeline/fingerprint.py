"""The hash that says whether two records of where a product comes from are of the same numbers."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

#: What a record holds beside what decides.
ABOUT: Final = ("fingerprint", "versions")
#: Settings that are there for the reader, and change no number.
FOR_THE_READER: Final = ("settings.foreground.source",)


def fingerprint_of(record: Mapping[str, Any] | None) -> str:
    """Hash of what decides over the numbers: all of a record but versions and what is there for the reader.

    It is made anew from what the record holds: maps that were made when the source of E(B-V) still counted are known.

    Parameters
    ----------
    record : mapping or None
        From `provenance`, or what a product has of it.

    Returns
    -------
    str
        Empty if there is no record; what it calls its fingerprint if it holds no settings.
    """
    if not record or not isinstance(settings := record.get("settings"), dict):
        return str((record or {}).get("fingerprint", ""))
    foreground = settings.get("foreground")
    if isinstance(foreground, dict):
        settings = settings | {"foreground": foreground | {"source": ""}}
    depends = {key: value for key, value in record.items() if key not in ABOUT} | {"settings": settings}
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
