"""The survey's page: its galaxies, what became of them, and what it was made with. Needs no product, only records."""

import json
from collections import Counter
from datetime import datetime
from typing import Any, Final

from galprote.model.wording import count
from galprote.workflows.report.facts import Fact
from galprote.workflows.report.files import page_name
from galprote.workflows.report.html import fill
from galprote.workflows.report.limits import LIMITS
from galprote.workflows.report.records import GalaxyRecord, SurveyRecord, has_page
from galprote.workflows.report.settings import flat
from galprote.workflows.report.words import duration_words, fixed_words, number_words

#: With more galaxies the survey's page has no small pictures: it would be too large for a phone.
MOST_PICTURES: Final = 600
#: Outcomes: a symbol and words, so that colour says nothing.
STATES: Final = {
    "done": ("✓", "done"), "skipped": ("✓", "done by an earlier run"), "incomplete": ("◐", "incomplete"),
    "failed": ("✗", "failed"), "stopped": ("‖", "stopped before its end"), "waiting": ("…", "not begun"),
    "running": ("…", "running"), "publishing": ("…", "being published"),
}  # fmt: skip
_PICTURES: Final = (("age_lw", "Age"), ("metallicity_lw", "[M/H]"), ("av", "Aᵥ"))


def make_index(survey: SurveyRecord) -> str:
    """Make the survey's page."""
    pictures = len(survey.galaxies) <= MOST_PICTURES
    cards = [galaxy.card for galaxy in survey.galaxies if galaxy.card is not None]
    rows = [_row(survey, galaxy, pictures=pictures) for galaxy in survey.galaxies]
    return fill("index.html", page={
        "title": f"Survey {survey.output.resolve().name}", "sentence": _sentence(survey), "facts": _facts(survey),
        "notes": _notes(survey), "rows": rows, "failures": _failures(survey), "provenance": _provenance(survey, cards),
        "settings": _shared_settings(cards), "footer": "Made by galprote; its docs/products.md says what maps mean.",
        "scales": _scales(pictures=pictures),
    })  # fmt: skip


def _scales(*, pictures: bool) -> str:
    """What the table shows."""
    numbers = "Numbers are medians of the good spaxels. Left out: with data, but not fitted, masked or not trusted."
    if not pictures:
        return f"{numbers} So many galaxies are listed without pictures."
    ends = (f"{label} from {number_words(LIMITS[name][0])} to {number_words(LIMITS[name][1])}"
            for (name, _), label in zip(_PICTURES, ("log₁₀ age", "[M/H]", "Aᵥ"), strict=True))  # fmt: skip
    return f"Pictures have the same scales for all galaxies: {', '.join(ends)} mag. {numbers}"


def _sentence(survey: SurveyRecord) -> str:
    counted = Counter(STATES.get(galaxy.outcome, ("", galaxy.outcome))[1] for galaxy in survey.galaxies)
    words = ", ".join(f"{number:,} {state}" for state, number in counted.items())
    return f"{len(survey.galaxies):,} galax{'y' if len(survey.galaxies) == 1 else 'ies'} ({words})."


def _facts(survey: SurveyRecord) -> list[Fact]:
    finished = sum(galaxy.finished for galaxy in survey.galaxies)
    fitted = sum(galaxy.card["counts"]["fitted"] for galaxy in survey.galaxies if galaxy.card)
    facts = [
        Fact("Galaxies finished", f"{finished:,} of {len(survey.galaxies):,}"),
        Fact("Failed", f"{sum(galaxy.outcome == 'failed' for galaxy in survey.galaxies):,}"),
        Fact("Spaxels fitted", f"{fitted:,}"),
    ]
    run = survey.run
    if run.get("since"):
        rate = run.get("spaxels_per_second") or 0
        more = f"{number_words(float(rate))} spaxels a second, empty ones included" if rate else ""
        facts.append(Fact("Last run took", duration_words(float(run.get("seconds") or 0)), more))
    return facts


def _notes(survey: SurveyRecord) -> list[str]:
    state = str(survey.run.get("state") or "ended")
    notes = []
    if state == "running":
        notes.append("The last run is going on, or was killed: `galprote-pipeline status` says which.")
    elif state != "ended":
        notes.append(f"The last run: {state}. What is finished is kept.")
    unfinished = any(galaxy.outcome not in ("done", "skipped") for galaxy in survey.galaxies)
    if unfinished and survey.run.get("command"):
        notes.append(f"To go on: {survey.run['command']}")
    return notes


def _row(survey: SurveyRecord, galaxy: GalaxyRecord, *, pictures: bool) -> dict[str, Any]:
    """A galaxy's row of the table."""
    symbol, state = STATES.get(galaxy.outcome, ("…", galaxy.outcome))
    card, linked = galaxy.card, has_page(survey.output, galaxy)
    why = [_error(galaxy)] if galaxy.error else []
    if galaxy.outcome == "incomplete" and galaxy.failures:
        why.append(f"{count(len(galaxy.failures), 'chunk')} failed: see below")
    if galaxy.finished and galaxy.outcome not in ("done", "skipped", "incomplete"):
        why.append("products of an earlier run are there")
    if galaxy.finished and not linked:
        why.append("its page could not be made")
    shown: list[dict[str, str]] = []
    for name, label in _PICTURES:
        uri = str(card["thumbnails"][name]) if card and pictures else ""
        uri = uri if uri.startswith("data:image/png;base64,") else ""
        shown.append({"label": label, "uri": uri, "words": f"{label} of {galaxy.name}, a small map"})
    return {
        "name": galaxy.name, "link": page_name(galaxy.name) if linked else "", "symbol": symbol, "state": state,
        "why": "; ".join(why), "counted": card is not None, "pictures": shown, "cells": _cells(galaxy),
    }  # fmt: skip


def _cells(galaxy: GalaxyRecord) -> list[dict[str, str]]:
    """A galaxy's numbers."""
    card = galaxy.card

    def median(name: str) -> str:
        value = card["medians"][name]["value"] if card else None
        return "" if value is None else fixed_words(float(value))

    counts = card["counts"] if card else {}
    left_out = sum(counts[kind] for kind in ("unfitted", "masked", "untrusted")) if card else None
    fitted = counts.get("fitted", galaxy.fitted if galaxy.finished else None)
    values = (
        ("Redshift", f"{card['redshift']:.5f}" if card else ""),
        ("Median S/N", number_words(float(card["snr"])) if card and card["snr"] is not None else ""),
        ("log₁₀ age", median("age_lw")), ("[M/H]", median("metallicity_lw")), ("Aᵥ", median("av")),
        ("Fitted", f"{fitted:,}" if fitted is not None else ""),
        ("Left out", f"{left_out:,}" if left_out is not None else ""),
        ("Time", duration_words(galaxy.seconds) if galaxy.seconds is not None else ""),
    )  # fmt: skip
    return [{"label": label, "value": value} for label, value in values]


def _failures(survey: SurveyRecord) -> list[dict[str, str]]:
    """Galaxies and chunks that could not be computed."""
    found = []
    for galaxy in survey.galaxies:
        if galaxy.outcome == "failed":
            found.append({"galaxy": galaxy.name, "what": "the whole galaxy", "error": _error(galaxy)})
        for item in galaxy.failures:
            rows = f"rows {item.get('first_row')} to {item.get('last_row')}, {item.get('attempts')} attempts"
            found.append({"galaxy": galaxy.name, "what": rows, "error": str(item.get("error", ""))})
    return found


def _error(galaxy: GalaxyRecord) -> str:
    """Why a galaxy failed, without its name: the row has that."""
    return galaxy.error.removeprefix(f"{galaxy.name}: ")


def _provenance(survey: SurveyRecord, cards: list[dict[str, Any]]) -> list[tuple[str, str]]:
    run = survey.run
    rows = [("Products", str(survey.output.resolve()))]
    rows += [("Command", str(run["command"]))] if run.get("command") else []
    if run.get("since"):
        rows.append(("Last run", f"begun {_date(str(run['since']))}, on {run.get('host', '')}"))
        rows.append(("galprote", str(run.get("galprote", ""))))
    for label, key in (("Products made with galprote", "galprote"), ("torch", "torch")):
        versions = sorted({str(card["versions"].get(key, "")) for card in cards})
        rows += [(label, ", ".join(versions))] if versions else []
    weights = sorted({f"{card['weights']} ({card['precision']})" for card in cards})
    return rows + ([("Weights", ", ".join(weights))] if weights else [])


def _date(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z")
    except ValueError:
        return text


def _shared_settings(cards: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Settings that are the same for every galaxy, if there are several."""
    if not cards:
        return []
    all_settings = [dict(flat(card["settings"])) for card in cards]
    first = all_settings[0]
    same = [key for key in first if all(key in other and other[key] == first[key] for other in all_settings)]
    return [(key, json.dumps(first[key])) for key in same if key != "name"]
