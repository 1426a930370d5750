"""Fits by likelihood of the same spectra with the same templates on the same core: pPXF, and NNLS with free A_V."""

from collections.abc import Callable
from time import process_time
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.speed.figures import Part, in_turns
from benchmarks.speed.inference import KINDS, make_predictor
from benchmarks.speed.setup import Setup
from galprote.model.decoder import Decoder
from galprote.model.predictor import CPU_BATCH
from galprote.model.rivals import NO_INFORMATION, MovingPpxf, Nnls, Ppxf

SPECTRA: Final = 32
#: Degree of the multiplicative polynomials that take the place of dust.
POLYNOMIALS: Final = 12

Fit = Callable[[NDArray[np.float64], NDArray[np.float64]], Any]


class PolynomialPpxf(Ppxf):
    """pPXF with multiplicative polynomials instead of dust, as pipelines fit populations; all else alike."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder)
        fit = self._fit

        def with_polynomials(*spectra: Any, **settings: Any) -> Any:
            found = fit(*spectra, **settings | {"mdegree": POLYNOMIALS, "dust": None})
            found.dust = [{"sol": [np.nan]}]  # the continuum's shape says nothing then
            return found

        self._fit = with_polynomials


def measure(setup: Setup) -> Part:
    """Time the rivals, and the model on the same spectra."""
    n = 1 if setup.quick else SPECTRA
    part = Part(
        "Rivals",
        f"{n} spectra of the mock cube, prepared once for all: the same 876 samples, masks, noise and 636 templates; "
        "no regularisation; one core, process time; the model on the same ones over and over, in batches",
    )
    torch.set_num_threads(1)
    spectra, noise = setup.spectra(len(setup.chunk.prepared.batch.spectra))
    chosen = np.linspace(0, len(spectra) - 1, n).astype(int)
    spectra, noise = spectra[chosen], noise[chosen]
    repeated = [np.tile(values, (-(-2 * CPU_BATCH // n), 1))[: 2 * CPU_BATCH] for values in (spectra, noise)]
    speeds = {}
    for precision in ("float32", "int8"):
        models = {kind: make_predictor(precision, "cpu", CPU_BATCH, errors=errors) for errors, kind in KINDS.items()}
        jobs = {kind: lambda model=model: model(*repeated, 0.01) for kind, model in models.items()}
        for kind, seconds in in_turns(jobs, process_time, 2 if setup.quick else 7).items():
            speeds[f"{precision}, {kind}"] = len(repeated[0]) / seconds
            part.add(f"galprote, {precision}, {kind}", len(repeated[0]) / seconds, "spectra/s", "more", "float32")
    finite = np.where(np.isfinite(noise), noise, NO_INFORMATION)
    for name, fit in _rivals(part, setup).items():
        each = _seconds(fit, spectra.astype(np.float64), finite.astype(np.float64))
        part.add(name, 1 / each, "spectra/s", "", "float32", f"{each:.3f} s a spectrum")
        for other, speed in speeds.items():
            target = "target: 2,750" if name.startswith("pPXF") else ""
            part.add(f"galprote, {other}, over {name}", speed * each, "times", "more", "", target)
    return part


def _rivals(part: Part, setup: Setup) -> dict[str, Fit]:
    decoder = setup.checkpoint.decoder
    found: dict[str, Fit] = {"NNLS with free A_V": Nnls(decoder)}
    try:
        version = _version()
        found[f"pPXF {version}, dust, kinematics known"] = Ppxf(decoder)
        found[f"pPXF {version}, dust and kinematics"] = MovingPpxf(decoder)
        found[f"pPXF {version}, polynomials of degree {POLYNOMIALS}, kinematics known"] = PolynomialPpxf(decoder)
    except ImportError:
        part.lacking.append("pPXF: not installed (pip install 'galprote[compare]')")
    return found


def _version() -> str:
    import ppxf

    return str(ppxf.__version__).rsplit(".", 1)[0]


def _seconds(fit: Fit, spectra: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """Process time for a spectrum."""
    fit(spectra[0], noise[0])
    began = process_time()
    for flux, sigma in zip(spectra, noise, strict=True):
        fit(flux, sigma)
    return (process_time() - began) / len(spectra)
