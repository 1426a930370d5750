"""A galaxy's page: everything on it is put together here, and depends on products, cube and code alone."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import GalproteError
from galprote.model.grids import KEPT
from galprote.pipeline.quality import Status
from galprote.pipeline.spectral_masks import WavelengthMasks, masked_samples, read_bands
from galprote.workflows.failures import describe
from galprote.workflows.refit import Refits
from galprote.workflows.report.charts import Chart, histograms, profile_charts
from galprote.workflows.report.drawing import drawn_here
from galprote.workflows.report.examples import Example, choose, cube_problem, refit
from galprote.workflows.report.facts import Fact
from galprote.workflows.report.files import PAGE_VERSION
from galprote.workflows.report.galaxy_maps import GalaxyMaps
from galprote.workflows.report.hatching import HATCHES, MOST_SPAXELS, hatch_swatch, mostly_doubtful
from galprote.workflows.report.html import fill
from galprote.workflows.report.map_picture import map_pictures, thumbnail
from galprote.workflows.report.radial import FEWEST, radial_profiles
from galprote.workflows.report.residual_spectrum import residual_spectrum
from galprote.workflows.report.settings import flat
from galprote.workflows.report.spectra import draw_fit, draw_residuals
from galprote.workflows.report.words import fixed_words, flux_words, number_words, utc_words

#: Maps of which the survey's page has a small picture.
THUMBNAILS: Final = ("age_lw", "metallicity_lw", "av")
_NBSP: Final = "\N{NO-BREAK SPACE}"


def make_page(store: Path, cube: Path | None, checkpoint: Path | None) -> tuple[str, dict[str, Any]]:
    """Make a galaxy's page.

    Parameters
    ----------
    store : Path
        A finished `<name>.zarr`.
    cube : Path or None
        The cube that it was made from, if it is known where that is: for the spectra of three spaxels.
    checkpoint : Path or None
        The weights that it was made with; None: the shipped ones.

    Returns
    -------
    str
        The page; its links to its neighbours are left open.
    dict
        What the survey's page has to know of the galaxy: JSON-able, without dates.

    Raises
    ------
    MapsError
        If the store is not a finished one.
    """
    galaxy = GalaxyMaps(store)
    with drawn_here():
        fits = _fits(galaxy, cube, checkpoint)
        residual, residual_words = _residual(galaxy, fits.bands)
        profiles = radial_profiles(galaxy)
        page = {
            "name": galaxy.name, "sentence": _sentence(galaxy), "facts": _facts(galaxy), "notes": list(_notes(galaxy)),
            "scales": _scales(galaxy), "legend": _legend(galaxy), "maps": list(map_pictures(galaxy)),
            "profiles": profile_charts(profiles),
            "profile_words": (
                "Median and 16 to 84 % of the good spaxels in rings that are round on the sky, around the brightest "
                f"light; not deprojected. Rings with fewer than {FEWEST} good spaxels are left out."
            ),
            "residual": residual, "residual_words": residual_words, "histograms": histograms(galaxy),
            "fits": fits.charts, "fit_words": fits.words, "flags": galaxy.flags(),
            "provenance": list(_provenance(galaxy)),
            "settings": [(key, json.dumps(value)) for key, value in flat(galaxy.record["settings"])],
            "footer": (
                f"galprote {galaxy.record['versions']['galprote']} · weights {galaxy.record['checkpoint_sha256'][:8]}"
            ),
        }  # fmt: skip
    card = _card(galaxy, cube_missing=cube is None or not cube.exists(), fits_missing=fits.missing)
    return fill("galaxy.html", page=page), card


def _card(galaxy: GalaxyMaps, *, cube_missing: bool, fits_missing: str) -> dict[str, Any]:
    """What the survey's page says of the galaxy."""
    snr = galaxy.good_values("snr")
    return {
        "page_version": PAGE_VERSION,
        "galaxy": galaxy.name,
        "fingerprint": galaxy.record["fingerprint"],
        "failed_rows": galaxy.gaps,
        "cube_missing": cube_missing,
        "fits_missing": fits_missing,
        "redshift": galaxy.about["redshift"],
        "counts": galaxy.counts() | {"bins": galaxy.bins},
        "snr": _json(float(np.median(snr)) if snr.size else np.nan),
        "snr_highest": _json(float(np.percentile(snr, 99)) if snr.size else np.nan),
        "medians": {
            name: {"value": _json(item.value), "low": _json(item.low), "high": _json(item.high)}
            for name, item in zip(THUMBNAILS, galaxy.medians(), strict=True)
        },
        "thumbnails": {name: thumbnail(galaxy, name) for name in THUMBNAILS},
        "versions": galaxy.record["versions"],
        "weights": galaxy.record["checkpoint_sha256"],
        "precision": galaxy.record["precision"],
        "settings": galaxy.record["settings"],
    }


def _json(value: float) -> float | None:
    """A number as JSON has it: it knows no NaN."""
    return round(float(value), 4) if np.isfinite(value) else None


def _sentence(galaxy: GalaxyMaps) -> str:
    counts, shape = galaxy.counts(), galaxy.shape
    bins = f"{galaxy.bins:,} bins; " if galaxy.bins is not None else ""
    return (
        f"{shape[0]:,} x {shape[1]:,} spaxels, {counts['with_data']:,} with data: {bins}{counts['fitted']:,} fitted, "
        f"{counts['good']:,} of them good (fitted and trusted). Numbers and charts are of the good ones."
    )


def _facts(galaxy: GalaxyMaps) -> list[Fact]:
    snr = galaxy.good_values("snr")
    facts = [Fact("Redshift", f"{galaxy.about['redshift']:.5f}"), Fact("Good spaxels", f"{galaxy.counts()['good']:,}")]
    if snr.size:
        highest = number_words(float(np.percentile(snr, 99)))
        facts.append(Fact(f"Median S/N per 2.48{_NBSP}Å", number_words(float(np.median(snr))), f"99 % below {highest}"))
    for item in galaxy.medians():
        error = f", error of one {fixed_words(item.error)}" if np.isfinite(item.error) else ""
        more = f"{fixed_words(item.low)} to {fixed_words(item.high)}{error}" if np.isfinite(item.value) else ""
        facts.append(Fact(f"Median {item.label.replace(' / ', f'{_NBSP}/{_NBSP}')}", fixed_words(item.value), more))
    trust = galaxy.good_values("trust")
    if trust.size:
        facts.append(
            Fact("Median trust", fixed_words(float(np.median(trust))), "ordinary spectra: 0 to 1 evenly, median 0.5")
        )
    return facts


def _notes(galaxy: GalaxyMaps) -> Iterator[str]:
    """What had to be assumed, and what is missing."""
    about = galaxy.about
    for first, last in galaxy.gaps:
        yield f"Rows {first} to {last} could not be computed: failures.csv says why, and the next run tries them again."
    if not galaxy.good.any():
        yield "No spaxel is good: maps show only flags."
    if about.get("flux_unit_assumed"):
        yield f"The cube has no flux unit: {flux_words(str(about['flux_unit']))} was assumed."
    for key in ("variance_note", "mass_density_note"):
        if about.get(key):
            note = str(about[key])
            yield note[:1].upper() + note[1:]
    if galaxy.good.any() and galaxy.read("age_lw_error") is None:
        yield "The weights give no errors and no trust."
    if not about.get("wcs_header"):
        yield "The cube has no sky coordinates: rows and columns are drawn as they are, north is not known."


def _scales(galaxy: GalaxyMaps) -> str:
    step = -(-max(galaxy.shape) // MOST_SPAXELS)
    words = (
        "Ages and metallicities are weighted by light. "
        "Age, [M/H], Aᵥ, their errors, residuals and trust have the same limits for every galaxy; flux, S/N, mass "
        "density and motions have the galaxy's own. Pointed ends of a colour bar: there are values beyond it."
    )
    return words + (f" A point of a picture is the mean of {step} x {step} spaxels." if step > 1 else "")


def _legend(galaxy: GalaxyMaps) -> list[dict[str, Any]]:
    counts = galaxy.counts()
    data = (galaxy.status & Status.NO_DATA) == 0
    where = {"doubtful": "; so many are that only the map of flags has the pattern"}
    if not mostly_doubtful(galaxy.kinds, data):
        where.clear()
    return [
        {"swatch": hatch_swatch(hatch.kind), "words": hatch.words + where.get(hatch.kind, ""),
         "spaxels": counts[hatch.kind]}
        for hatch in HATCHES if counts[hatch.kind]
    ]  # fmt: skip


def _residual(galaxy: GalaxyMaps, bands: NDArray[np.bool_] | None) -> tuple[Chart | None, str]:
    """The chart of the mean residual spectrum, and what it is, or why it is missing."""
    if not galaxy.record["settings"]["products"]["residual"]:
        return None, "Missing: the survey did not ask for a residual cube (products.residual)."
    found = residual_spectrum(galaxy)
    if found is None:
        return None, "Missing: no spaxel is good."
    unused = ~KEPT if bands is None else bands
    masks = WavelengthMasks(
        read_bands(str(galaxy.about["masked_observed"])), read_bands(str(galaxy.about["masked_rest"]))
    )
    redshift = float(galaxy.about["redshift"])
    chart = draw_residuals(found, redshift, unused, masked_samples(masks, redshift) & ~unused)
    of = "all" if found.spectra == found.of else f"{found.spectra:,} (in blocks spread over the image) of the"
    return chart, (
        f"Observed minus model, divided by the spectrum's median flux: the mean over {of} {found.of:,} good "
        f"{found.what}, and what 16 to 84 % of them have. What is common to all spectra stays: lines of the gas, and "
        "what templates and calibration do not know."
    )


@dataclass(frozen=True)
class _Fits:
    """Charts of three fits, what they are or why there are none, and samples (948,) that the network does not use.

    `missing` is why cube or weights could not give them; empty if they did, or nothing could be shown.
    """

    charts: list[Chart]
    words: str
    bands: NDArray[np.bool_] | None = None
    missing: str = ""


def _fits(galaxy: GalaxyMaps, cube: Path | None, checkpoint: Path | None) -> _Fits:
    examples = choose(galaxy)
    if examples is None:
        return _Fits([], "Missing: no spaxel is good.")
    problem = cube_problem(cube)
    found: list[Refits] = []
    if not problem:
        assert cube is not None
        try:
            found = refit(galaxy, examples, cube, checkpoint)
        except (GalproteError, OSError) as error:
            problem = describe(error)
    if problem:
        words = f"Missing: {problem}. galprote-pipeline report draws them when it is there."
        return _Fits([], words, missing=problem)
    charts = [
        draw_fit(fit, example.title, _fit_words(fit, example))
        for fit, example in zip(found, examples.chosen, strict=True)
    ]
    mean = "" if galaxy.bins is None else " A bin's spectrum is the mean of its spaxels', as observed."
    return _Fits(charts, examples.rule + mean, found[0].bands)


def _fit_words(fit: Refits, example: Example) -> str:
    """A fit's numbers."""
    p = fit.populations

    def both(value: NDArray[np.float32], error: NDArray[np.float32]) -> str:
        return fixed_words(float(value[0])) + (f" ± {fixed_words(float(error[0]))}" if np.isfinite(error[0]) else "")

    where = f"row {example.row}, column {example.column}"
    where = f"Bin {example.bin} ({where})" if example.bin is not None else where.capitalize()
    return (
        f"{where}: S/N {fit.snr[0]:.0f}, scatter of residuals over noise {fixed_words(example.value)}, "
        f"log₁₀ age {both(p.log_age, p.log_age_error)}, [M/H] {both(p.metallicity, p.metallicity_error)}, "
        f"Aᵥ {both(p.av, p.av_error)} mag"
    )


def _provenance(galaxy: GalaxyMaps) -> Iterator[tuple[str, str]]:
    about, record = galaxy.about, galaxy.record
    given = record["input"]
    yield (
        "Cube",
        f"{given['file']}, {given['bytes']:,} bytes"
        + (
            f", changed {utc_words(given['modified'])}"
            if given["modified"]
            else ", synthetic"
            if record["settings"].get("mock")
            else ""
        ),
    )
    yield "Hash of its headers", str(given["header_sha256"])
    yield "Flux unit", f"{flux_words(str(about['flux_unit']))}{' (assumed)' if about['flux_unit_assumed'] else ''}"
    yield "Variances", str(about["variance_source"])
    source = f", {about['foreground_source']}" if about["foreground_source"] else ""
    law = f"{about['foreground_law']}, Rᵥ = {about['foreground_r_v']:g}"
    yield "Foreground dust", f"E(B-V) = {about['foreground_ebv']:g} mag{source}; {law}"
    yield "Bins, motions", f"binning: {about['binning']}; kinematics: {about['kinematics']}"
    frames = (("masked_observed", "observed"), ("masked_rest", "rest frame"))
    masked = [f"{about[key]} Å {frame}" for key, frame in frames if about[key]]
    yield "Masked wavelengths", "; ".join(masked) or "none"
    yield "Weights", f"{record['checkpoint_sha256']}, precision {record['precision']}"
    yield "Fingerprint", str(record["fingerprint"])
    yield "Versions", ", ".join(f"{name} {number}" for name, number in record["versions"].items())
