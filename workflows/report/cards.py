"""What the survey's page knows of a galaxy: the card beside the galaxy's page, and what has to be in it."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from galprote.workflows.report.files import PAGE_VERSION, card_file, page_file


class _Counts(BaseModel):
    fitted: int
    unfitted: int
    masked: int
    untrusted: int


class _Median(BaseModel):
    value: float | None


class _Medians(BaseModel):
    age_lw: _Median
    metallicity_lw: _Median
    av: _Median


class _Thumbnails(BaseModel):
    age_lw: str
    metallicity_lw: str
    av: str


class _Card(BaseModel):
    """What is read of a card; there may be more in it."""

    page_version: int
    galaxy: str
    fingerprint: str
    failed_rows: list[Any]
    cube_missing: bool
    fits_missing: str
    redshift: float
    counts: _Counts
    snr: float | None
    medians: _Medians
    thumbnails: _Thumbnails
    versions: dict[str, Any]
    weights: str
    precision: str
    settings: dict[str, Any]


def read_card(output: Path, name: str) -> dict[str, Any] | None:
    """What is known of a galaxy's page: None if there is no page, or its card lacks something: it is made again."""
    try:
        card = dict(json.loads(card_file(output, name).read_text(encoding="utf-8")))
        _Card.model_validate(card, strict=True)
    except (OSError, ValueError, TypeError, RecursionError, ValidationError):
        return None
    known = card["page_version"] == PAGE_VERSION and card["galaxy"] == name
    return card if known and page_file(output, name).is_file() else None
