"""CALIFA's cubes (`NAME.V500.rscube.fits.gz`, `NAME.V1200...`, `NAME.COMB...`).

Format: Sanchez et al. 2016 (A&A 594, A36; DR3), Garcia-Benito et al. 2015 (A&A 576, A135; DR2), Husemann et al. 2013
(A&A 549, A87; DR1).

- The primary HDU holds the flux in 1e-16 erg/s/cm2/Angstrom, corrected for the dust of the Milky Way already (see
  `_dust`), on a linear axis of air wavelengths in Angstrom. Headers are often silent on all of these.
- `ERROR`: standard deviation of the flux, without correlations between spaxels. `BADPIX`: 1 where there is no flux.
- `ERRWEIGHT` (a factor for errors of sums over many spaxels) and `FIBCOVER` (fibres in a spaxel) are not used.
- FWHM: 6 Angstrom in V500, to which COMB is brought too, 2.3 Angstrom in V1200 (Husemann et al. 2013, section 5).
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits

from galprote.model.line_spread import LineSpread
from galprote.pipeline.readers.axis import SpectralAxis, read_wavelengths
from galprote.pipeline.readers.fitsfile import Hdu, find_hdu
from galprote.pipeline.readers.parts import CubeParts, LineWidth, image_of, require_same_shape

_BLUNT: Final = LineSpread(fwhm=6.0)
_SHARP: Final = LineSpread(fwhm=2.3)
#: V1200 has channels of 0.7 Angstrom, V500 and COMB of 2.
_SHARP_STEP: Final = 1.0


def find_califa(path: Path, hdus: Sequence[Hdu]) -> CubeParts | None:
    """Recognise a CALIFA cube: flux in the primary HDU, `ERROR` and `BADPIX` beside it.

    Raises
    ------
    CubeError
        If it is one, but damaged.
    """
    flux, error, bad = hdus[0], find_hdu(hdus, "ERROR"), find_hdu(hdus, "BADPIX")
    names = {hdu.name for hdu in hdus}
    if flux.image is None or error is None or bad is None or not names & {"ERRWEIGHT", "FIBCOVER"}:
        return None
    shape = image_of(flux).shape
    require_same_shape(flux, error, bad)
    axis = _axis(flux.header, shape[0])
    step = float(np.median(np.abs(np.diff(axis.wavelength))))
    sharp = step < _SHARP_STEP
    law, setup = (_SHARP, "V1200") if sharp else (_BLUNT, "V500 or COMB")
    return CubeParts(
        flux, error, "sigma", bad, axis,
        layout=f"CALIFA {setup}",
        default_unit="1e-16 erg/s/cm2/Angstrom",
        line_width=LineWidth(partial(law.fwhm_at, axis.wavelength), f"CALIFA {setup} (Husemann et al. 2013)"),
        notes=(_dust(flux.header),),
        advice="V1200 ends near 4840 A: use the V500 or COMB cube of the galaxy." if sharp else "",
    )  # fmt: skip


def _axis(header: fits.Header, length: int) -> SpectralAxis:
    """CALIFA's own convention where the header is silent: a linear axis, air, Angstrom."""
    header = header.copy()
    if not str(header.get("CTYPE3", "")).strip():
        header["CTYPE3"] = "AWAV"
    if not str(header.get("CUNIT3", "")).strip():
        header["CUNIT3"] = "Angstrom"
    return read_wavelengths(header, 3, length)


def _dust(header: fits.Header) -> str:
    """What is known of the Milky Way's dust: the pipeline has removed it, and writes so (HIERARCH PIPE GALEXT CORR)."""
    key = next((key for key in header if "GALEXT" in key and "CORR" in key), None)
    if key is not None and not header[key]:
        return f"{key} says that the dust of the Milky Way was not removed: give its E(B-V)"
    return "CALIFA's pipeline has removed the dust of the Milky Way: foreground.ebv should be 0"
