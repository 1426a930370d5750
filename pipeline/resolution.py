"""An instrument's line spread function beside the templates': what to do about the difference.

The network takes a line as wide as the templates' for no dispersion at all, and finds dispersions of up to 320 km/s on
top of it. Blunter spectra therefore look to it like stars that move faster, and ages, metallicities and A_V lose what a
dispersion of that size costs. Sharper ones have nowhere to go: they are broadened. A redshift of z makes lines narrower
by 1 + z in the rest frame, where templates are compared.

Limits are measured (`benchmarks/resolution.py`, docs/instruments.md). Differences are given as the dispersion that
makes one of the other: sqrt(|fwhm_a^2 - fwhm_b^2|) / 2.355 / wavelength * c.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from galprote.model.errors import CubeError
from galprote.model.grids import EDGES, N_WAVELENGTH, STEP
from galprote.model.kinematics import C_KMS
from galprote.model.line_spread import FWHM_PER_SIGMA, LineSpread, TemplateResolution
from galprote.model.templates import broadening_matrix
from galprote.pipeline.rebin import edges_of, rebin_matrix

#: Spectra that are sharper by less than this (km/s) are off by 0.013 dex and 0.017 mag at most as they are.
SAME_KMS: Final = 45.0
#: Those that are blunter by less than this (km/s) by 0.013 dex and 0.017 mag, and rms errors grow by a tenth.
TOLD_KMS: Final = 60.0
#: The network was trained on dispersions up to this (km/s); wider lines it cannot make.
MOST_KMS: Final = 300.0
#: Channels wider than this share of the FWHM do not hold what is in between: rebinned spectra are off by 0.3 % or more.
WIDEST_CHANNEL: Final = 0.8
#: Differences along the spectrum are taken at this percentile: a curve from a file may have spikes.
_PERCENTILE: Final = 95.0
#: Fine samples in a model sample, on which spectra are broadened.
_FINE: Final = 8

FINE_TUNING: Final = (
    "fine-tune the weights for this instrument: put its line_spread into a copy of configs/train/instrument.yaml, and "
    "galprote-pipeline train instrument.yaml --library /path/to/library (docs/training.md, Fine-tuning)"
)


@dataclass(frozen=True)
class ResolutionMatch:
    """What an instrument's line spread function means for its spectra.

    Attributes
    ----------
    broadening : tuple of float
        Standard deviation by which each channel is to be broadened, Angstrom, observed frame; empty if nothing is.
    blunter_kms : float
        Dispersion that the instrument adds to the templates' resolution; 0 if it is not blunter.
    note : str
        What a user should know, in words; empty if all is well.
    excess_square : float
        Squared dispersion, (km/s)^2, that the spectra have beyond the templates' resolution because of the instrument,
        once they are broadened: the median along the spectrum; negative if it is sharper.
    """

    broadening: tuple[float, ...] = ()
    blunter_kms: float = 0.0
    note: str = ""
    excess_square: float = 0.0


def match_resolution(
    wavelength: NDArray[np.float64],
    fwhm: NDArray[np.float64],
    redshift: float,
    templates: TemplateResolution,
    source: str = "",
) -> ResolutionMatch:
    """Compare an instrument with the templates of the weights.

    Parameters
    ----------
    wavelength : (m,) float64
        Observed air wavelengths of the channels that are used, Angstrom, ascending.
    fwhm : (m,) float64
        FWHM of the instrument's line spread function there, Angstrom, observed; NaN where unknown.
    redshift : float
    templates : TemplateResolution
    source : str
        Where `fwhm` comes from, for messages.

    Returns
    -------
    ResolutionMatch

    Raises
    ------
    CubeError
        If the instrument is too blunt for these weights, or a width is not positive.
    """
    known = np.isfinite(fwhm)
    rest = wavelength / (1 + redshift)
    wanted = templates.fwhm_at(rest)
    if not known.any():
        note = "the instrument's line spread function is not known: the templates' is assumed; give `instrument`"
        return ResolutionMatch(note=_joined(f"{note} (docs/instruments.md)", _sampling(rest, wanted)))
    if not (fwhm[known] > 0).all():
        raise CubeError(f"the line spread function ({source}) is not positive at all of the cube's wavelengths")
    found = np.interp(wavelength, wavelength[known], fwhm[known]) / (1 + redshift)
    squared = found**2 - wanted**2
    kms = np.sqrt(np.abs(squared)) / FWHM_PER_SIGMA / rest * C_KMS
    blunter, sharper = (float(np.percentile(np.where(sign * squared > 0, kms, 0.0), _PERCENTILE)) for sign in (1, -1))
    if blunter > MOST_KMS:
        raise CubeError(_too_blunt(found, wanted, blunter, source))
    broadening: tuple[float, ...] = ()
    notes = []
    if sharper > SAME_KMS:
        sigma = np.sqrt(np.maximum(-squared, 0.0)) / FWHM_PER_SIGMA * (1 + redshift)
        broadening = tuple(sigma.tolist())
        notes.append(
            f"the instrument is sharper than the templates (by up to {sharper:.0f} km/s; {source}): its spectra are "
            f"broadened to theirs, which correlates the noise of neighbouring samples"
        )
    if blunter > TOLD_KMS:
        notes.append(
            f"the instrument is blunter than the templates ({source}; {_widths(found, wanted)}): it adds a dispersion "
            f"of up to {blunter:.0f} km/s to the stars', and the network finds {MOST_KMS:.0f} of both together; ages "
            f"and [M/H] lose some of their accuracy (docs/instruments.md). To do better, {FINE_TUNING}"
        )
    return ResolutionMatch(
        broadening,
        blunter if blunter > TOLD_KMS else 0.0,
        _joined(*notes, _sampling(rest, np.maximum(found, wanted))),
        float(np.median(np.sign(squared) * kms**2 if not broadening else np.where(squared > 0, kms**2, 0.0))),
    )


def _joined(*notes: str) -> str:
    return ". ".join(filter(None, notes))


def _sampling(rest: NDArray[np.float64], fwhm: NDArray[np.float64]) -> str:
    """Say that channels are too wide for lines of this width, which have been broadened or are as they are."""
    width = np.gradient(rest)
    share = float(np.median(width / fwhm))
    if share <= WIDEST_CHANNEL:
        return ""
    return (
        f"channels of {np.median(width):.2f} A (rest frame) are too wide for lines of {np.median(fwhm):.2f} A: the "
        f"spectra come out smoother than they are, by 0.3 to 2 % of the flux (docs/instruments.md)"
    )


def _widths(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> str:
    return f"FWHM {np.median(found):.2f} A against {np.median(wanted):.2f} A in the rest frame"


def _too_blunt(found: NDArray[np.float64], wanted: NDArray[np.float64], blunter: float, source: str) -> str:
    return (
        f"the instrument is too blunt for these weights ({source}; {_widths(found, wanted)}): it adds a dispersion of "
        f"{blunter:.0f} km/s to the stars', and the network knows {MOST_KMS:.0f} km/s at most. Correct `instrument` if "
        f"that is wrong, or {FINE_TUNING}"
    )


def instrument_width(
    wavelength: NDArray[np.float64], told: NDArray[np.float64], source: str, law: LineSpread | None
) -> tuple[NDArray[np.float64], str]:
    """The line spread function to believe: the survey's where it gives one, else what the cube's reader found.

    Parameters
    ----------
    wavelength : (m,) float64
        Observed, Angstrom.
    told : (m,) float64
        The Dataset's `lsf_fwhm`.
    source : str
        The Dataset's `lsf_source`.
    law : LineSpread or None
        The survey's.

    Returns
    -------
    fwhm : (m,) float64
        Angstrom, observed.
    source : str
    """
    if law is None:
        return told, source
    return law.fwhm_at(wavelength), "the survey's `instrument`"


def matched_matrix(wavelength: NDArray[np.float64], redshift: float, broadening: NDArray[np.float64]) -> csr_array:
    """Broadening and rebinning to the model's samples in one matrix.

    Spectra are brought to samples of 0.31 A, broadened there, and averaged: on the channels themselves a kernel
    narrower than they are could not be written down.

    Parameters
    ----------
    wavelength : (m,) float64
        Observed, Angstrom, ascending.
    redshift : float
    broadening : (m,) float64
        Standard deviation at each channel, Angstrom, observed.

    Returns
    -------
    (948, m) csr_array of float32
        As `rebin_matrix`: rows sum to the share of the sample that the channels cover.
    """
    margin = _margin(broadening, redshift)
    edges = EDGES[0] + STEP / _FINE * np.arange(-margin, N_WAVELENGTH * _FINE + margin + 1)
    inner = np.arange(N_WAVELENGTH * _FINE)
    mean = csr_array(
        (np.full(inner.size, 1 / _FINE), (inner // _FINE, inner + margin)), shape=(N_WAVELENGTH, len(edges) - 1)
    )
    return csr_array(mean @ _broadened(wavelength, redshift, broadening, edges)).astype(np.float32)


def broadened_matrix(
    wavelength: NDArray[np.float64],
    redshift: float,
    broadening: NDArray[np.float64],
    output_edges: NDArray[np.float64],
) -> csr_array:
    """Broadening and rebinning to any rest-frame samples (n + 1 edges, Angstrom) in one matrix, as `matched_matrix`."""
    margin = _margin(broadening, redshift)
    count = int(np.ceil((output_edges[-1] - output_edges[0]) / (STEP / _FINE)))
    edges = output_edges[0] + STEP / _FINE * np.arange(-margin, count + margin + 1)
    fine = _broadened(wavelength, redshift, broadening, edges)
    return csr_array(rebin_matrix(edges, output_edges) @ fine).astype(np.float32)


def _margin(broadening: NDArray[np.float64], redshift: float) -> int:
    """Fine samples at either end from which light is smeared in."""
    return int(np.ceil(6 * broadening.max() / (1 + redshift) / STEP)) * _FINE


def _broadened(
    wavelength: NDArray[np.float64], redshift: float, broadening: NDArray[np.float64], edges: NDArray[np.float64]
) -> csr_array:
    """Broadened spectra on fine rest-frame samples."""
    rest, sigma = wavelength / (1 + redshift), broadening / (1 + redshift)
    centres = (edges[1:] + edges[:-1]) / 2
    # A kernel that is integrated over samples is wider than itself by a sample's own variance.
    kernel = np.sqrt(np.maximum(np.interp(centres, rest, sigma) ** 2 - (STEP / _FINE) ** 2 / 12, 0.0))
    return csr_array(broadening_matrix(edges, kernel) @ rebin_matrix(edges_of(rest), edges))
