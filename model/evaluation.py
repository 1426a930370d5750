"""Every suite of tests by name, for any checkpoint: the paper's tables and what the paper left out.

The test spectra are made from the checkpoint's own templates, so that no template library is needed; only the suite
`library` asks for one.
"""

import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from galprote.model.anomaly_suite import anomalies_suite
from galprote.model.bench import Bench
from galprote.model.coverage import coverage_suite
from galprote.model.errors import ConfigError
from galprote.model.fits import fits_suite
from galprote.model.other_library import other_library
from galprote.model.predictor import Predictor
from galprote.model.stars import read_stars
from galprote.model.statistics import SuiteResult
from galprote.model.suites import (
    artefacts_suite,
    dispersion_suite,
    library_suite,
    paper_suite,
    survey_suite,
    velocity_suite,
)

SUITES: Final[dict[str, Callable[[Bench], SuiteResult]]] = {
    "paper": paper_suite,
    "survey": survey_suite,
    "library": library_suite,
    "dispersion": dispersion_suite,
    "velocity": velocity_suite,
    "artefacts": artefacts_suite,
    "fits": fits_suite,
    "coverage": coverage_suite,
    "anomalies": anomalies_suite,
}

#: Suites that look at what the network says of itself: for weights with an appraisal.
APPRAISED_SUITES: Final = ("coverage", "anomalies")

NO_LIBRARY: Final = "library: left out, because it needs another template library: add --library FILE.npz or a folder"


def evaluate_suites(
    predictor: Predictor,
    suite: str = "all",
    *,
    library: Path | None = None,
    stars: Path | None = None,
    limit: int | None = None,
    report: Callable[[str, float, SuiteResult], None] = lambda name, seconds, result: None,
) -> dict[str, SuiteResult]:
    """Run one suite of tests or all.

    Parameters
    ----------
    predictor : Predictor
    suite : str
        A name of `SUITES`, or `all`.
    library : Path, optional
        A template library (`galprote.model.libraries.read_library`) that the network was not trained on, for the suites
        `library` and `coverage`; without it, `all` leaves `library` out and says so.
    stars : Path, optional
        A library of stars (`galprote.model.stars.read_stars`), for the suite `anomalies`.
    limit : int, optional
        Use at most so many spectra in each case.
    report : callable
        Called with each suite's name, seconds and result when it is done.

    Returns
    -------
    dict of SuiteResult
        By suite; the same numbers every time, but for the seconds.

    Raises
    ------
    ConfigError
        If there is no such suite, it needs a library, or the library is for another one.
    LibraryError
        If the library cannot be used.
    """
    if suite != "all" and suite not in SUITES:
        raise ConfigError(f"--suite {suite}: unknown; expected one of all, {', '.join(SUITES)}")
    if suite == "library" and library is None:
        raise ConfigError("--suite library: needs a library that the network does not know; add --library PATH")
    for option, path, users in (("library", library, ("library", "coverage")), ("stars", stars, ("anomalies",))):
        if path is not None and suite not in ("all", *users):
            raise ConfigError(
                f"--{option} {path}: not used by --suite {suite}; leave it out, or choose {' or '.join(users)}"
            )
    other = None if library is None else other_library(library, predictor.checkpoint)
    bench = Bench(predictor, other, None if stars is None else read_stars(stars), limit)
    results = {}
    for name in SUITES if suite == "all" else (suite,):
        if name == "library" and library is None:
            results[name] = SuiteResult(remarks=[NO_LIBRARY])
            continue
        if suite == "all" and name in APPRAISED_SUITES and predictor.model.appraisal is None:
            results[name] = SuiteResult(remarks=[f"{name}: left out, because these weights have no appraisal"])
            continue
        started = time.perf_counter()
        results[name] = SUITES[name](bench)
        report(name, time.perf_counter() - started, results[name])
    return results


def results_dict(results: dict[str, SuiteResult], predictor: Predictor) -> dict[str, Any]:
    """Everything as plain data: suite to case to quantity to numbers.

    Under `about` what was measured and by what, and the remarks.
    """
    checkpoint = predictor.checkpoint
    about = {
        "checkpoint_sha256": checkpoint.sha256,
        "weights_sha256": checkpoint.weights_sha256,
        "templates": checkpoint.decoder.library,
        "device": predictor.device.type,
        "versions": {name: version(name) for name in ("galprote", "torch", "numpy", "scipy")},
        "remarks": [remark for result in results.values() for remark in result.remarks],
    }
    return {"about": about} | {name: result.cases for name, result in results.items() if result.cases}
