"""Cubes of one spaxel, named as surveys name them, and `galprote-pipeline init` on their folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.io import fits

from tests import cubes
from tests.surveys import call

Capture = pytest.CaptureFixture[str]
PHANGS = "{}_PHANGS_DATACUBE_native.fits"
COPT = "{}_PHANGS_DATACUBE_copt_0.92asec.fits"
MAUVE = "{}_DATACUBE_FINAL_WCS_Pall_mad_red_v3tk.fits"
MANGA = "manga-{}-LOGCUBE.fits"
#: What a bundled table and the smallest cube have in common: 4740 A to 7240 A.
CHANNELS, FIRST = 2000, 4740.0


def make_cube(path: Path, primary: dict[str, Any] | None = None, **cards: Any) -> Path:
    """A MUSE cube of one spaxel: only its headers matter."""
    flux = np.ones((CHANNELS, 1, 1), np.float32)
    return cubes.write_muse_cube(
        path, flux, flux, cubes.muse_cards(FIRST) | cards, primary={"OBJECT": "P01"} | (primary or {})
    )


def make_manga_cube(path: Path, ebv: float | None = 0.0187) -> Path:
    """MaNGA's HDUs and keywords: vacuum wavelengths in logarithmic steps, inverse variances, a mask."""
    flux = np.ones((4563, 2, 2), np.float32)
    hdus = fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(flux, name=name) for name in ("FLUX", "IVAR"))])
    hdus.append(fits.ImageHDU(np.zeros(flux.shape, np.int32), name="MASK"))
    hdus[0].header["PLATEIFU"] = path.name.removeprefix("manga-").removesuffix("-LOGCUBE.fits")
    if ebv is not None:
        hdus[0].header["EBVGAL"] = ebv
    cards = cubes.celestial_cards() | {"CTYPE3": "WAVE-LOG", "CUNIT3": "Angstrom", "CRPIX3": 1.0}
    hdus["FLUX"].header.update(cards | {"CRVAL3": 3621.59598486, "CD3_3": 0.833903, "BUNIT": "1E-17 erg/s/cm^2/Ang"})
    hdus.writeto(path)
    return path


def init(capsys: Capture, folder: Path, *words: object) -> tuple[str, dict[str, Any]]:
    """Standard output without line breaks in cells, and the galaxies of the YAML by name, as they stand there."""
    code, output, error = call(capsys, "init", folder, *words)
    assert code == 0, error
    written = next(line.removeprefix("Wrote ") for line in output.splitlines() if line.startswith("Wrote "))
    raw = yaml.safe_load(Path(written).read_text())
    return output, {galaxy["name"]: galaxy for galaxy in raw["galaxies"]}
