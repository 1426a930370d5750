"""Wavelength masks: a survey's own bands and nGIST's specMask files -> what is left out of the fit, in either frame.

A specMask file has three columns: wavelength and width in Angstrom (air), and a name. Lines whose name contains `sky`
are in the observed frame, all others in the galaxy's rest frame. Sources: nGIST (Fraser-McKelvie et al. 2025, A&A 700,
A237) and its predecessor GIST (Bittner et al. 2019, A&A 628, A117, DOI 10.1051/0004-6361/201935829).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from galprote.model.errors import ConfigError
from galprote.model.grids import EDGES, STEP, WAVELENGTH
from galprote.model.wording import count
from galprote.pipeline.mask_config import LONGEST_A, SHORTEST_A, MasksConfig

#: First and last wavelength, Angstrom in air.
Bands = tuple[tuple[float, float], ...]

#: Largest share of the samples that masks may leave out, and the most samples in one stretch (200 Angstrom; the widest
#: gap of the training): beyond them the errors no longer hold (docs/masks.md).
MOST_MASKED: Final = 0.25
WIDEST_MASKED: Final = 80

_COLUMNS: Final = "expected wavelength and width in Angstrom and a name, as in `5577.00 30 sky`"


@dataclass(frozen=True)
class WavelengthMasks:
    """Bands that the fit does not use; sorted, none touching another.

    Attributes
    ----------
    observed : tuple of (float, float)
        In the observed frame, Angstrom in air.
    rest : tuple of (float, float)
        In the rest frame of the galaxy.
    """

    observed: Bands = ()
    rest: Bands = ()


#: Nothing is left out.
NO_MASKS: Final = WavelengthMasks()


def wavelength_masks(masks: MasksConfig) -> WavelengthMasks:
    """Put a galaxy's bands and specMask files together.

    Raises
    ------
    ConfigError
        If a file cannot be read.
    """
    read = [read_spec_mask(path) for path in masks.spec_masks]
    observed = [band for item in read for band in item.observed]
    rest = [band for item in read for band in item.rest]
    return WavelengthMasks(merged((*masks.observed, *observed)), merged((*masks.rest, *rest)))


def merged(bands: Iterable[tuple[float, float]]) -> Bands:
    """Sort bands, and join those that touch."""
    joined: list[tuple[float, float]] = []
    for first, last in sorted(bands):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def read_spec_mask(path: str | Path) -> WavelengthMasks:
    """Read one of nGIST's specMask files.

    Of a line's width, half is on either side of its wavelength, in the line's own frame. What follows `#` is a comment,
    columns after the third are ignored, as nGIST does.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ConfigError
        If the file cannot be read, or a line of it is not understood: with its number.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"spectral mask {path}: cannot be read ({error}): name a specMask file of nGIST") from error
    observed: list[tuple[float, float]] = []
    rest: list[tuple[float, float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            try:
                band = _band(words)
            except ValueError as error:
                raise ConfigError(f"spectral mask {path}, line {number} ({line.strip():.60}): {error}") from error
            (observed if "sky" in words[2].lower() else rest).append(band)
    return WavelengthMasks(merged(observed), merged(rest))


def _band(words: list[str]) -> tuple[float, float]:
    """First and last wavelength of a line of a specMask file."""
    if len(words) < 3:
        raise ValueError(f"{count(len(words), 'column')}: {_COLUMNS}")
    try:
        wavelength, width = float(words[0]), float(words[1])
    except ValueError:
        raise ValueError(_COLUMNS) from None
    if not SHORTEST_A <= wavelength <= LONGEST_A:
        raise ValueError(f"wavelength {words[0]}: expected {SHORTEST_A:g} to {LONGEST_A:g} Angstrom")
    if not 0 < width <= wavelength:
        raise ValueError(f"width {words[1]}: expected a positive number of Angstrom")
    return wavelength - width / 2, wavelength + width / 2


def touched(edges: NDArray[np.float64], bands: Bands) -> NDArray[np.bool_]:
    """Tell which samples between edges (n + 1,) touch a band: (n,)."""
    touching = np.zeros(len(edges) - 1, dtype=bool)
    for first, last in bands:
        touching |= (edges[1:] > first) & (edges[:-1] < last)
    return touching


def masked_samples(masks: WavelengthMasks, redshift: float) -> NDArray[np.bool_]:
    """Tell which of the model's samples are left out: (948,).

    Those that touch a band of the rest frame, and those of which bands of the observed frame cover half or more: what
    is missing when the cube's channels were infinitely narrow. With real ones it may differ by a sample at either end.
    """
    covered = np.zeros_like(WAVELENGTH)
    for first, last in masks.observed:
        width = np.minimum(EDGES[1:], last / (1 + redshift)) - np.maximum(EDGES[:-1], first / (1 + redshift))
        covered += np.maximum(width, 0.0)
    return touched(EDGES, masks.rest) | (covered >= 0.5 * STEP)


def check_masked_share(
    masks: WavelengthMasks, redshift: float, visible: Sequence[bool] | NDArray[np.bool_], where: str
) -> float:
    """Share of the samples that the weights use which masks leave out.

    Parameters
    ----------
    masks : WavelengthMasks
    redshift : float
    visible : (948,) bool
        Samples that the weights use.
    where : str
        Begins the message.

    Raises
    ------
    ConfigError
        If it is larger than `MOST_MASKED`, or one stretch has more than `WIDEST_MASKED` samples.
    """
    used = np.array(visible, dtype=bool)
    masked = masked_samples(masks, redshift)[used]
    share = float(masked.mean())
    advice = "take fewer or narrower bands, or train weights that never see these wavelengths (docs/training.md)"
    if share > MOST_MASKED:
        raise ConfigError(
            f"{where}: masks: wavelength masks leave out {share:.1%} of the model's samples, more than "
            f"{MOST_MASKED:.0%}, up to which errors hold: {advice}"
        )
    ends = np.flatnonzero(np.diff(np.pad(masked.astype(np.int8), 1)))
    starts, stops = ends[::2], ends[1::2]
    widest = int((stops - starts).argmax()) if len(starts) else 0
    if len(starts) and stops[widest] - starts[widest] > WIDEST_MASKED:
        first, last = WAVELENGTH[used][starts[widest]], WAVELENGTH[used][stops[widest] - 1]
        raise ConfigError(
            f"{where}: masks: wavelength masks leave out all from {first:.0f} to {last:.0f} A (rest frame), "
            f"{stops[widest] - starts[widest]} samples, more than the {WIDEST_MASKED} of the widest gaps in training, "
            f"up to which errors hold: {advice}"
        )
    return share


def mask_attributes(masks: WavelengthMasks, redshift: float, visible: Sequence[bool]) -> dict[str, str | float]:
    """Say in a store's attributes which wavelengths were left out: bands in Angstrom, and the share of the samples."""
    used = np.array(visible, dtype=bool)
    return {
        "masked_observed": ", ".join(band_words(masks.observed)),
        "masked_rest": ", ".join(band_words(masks.rest)),
        "masked_fraction": round(float(masked_samples(masks, redshift)[used].mean()), 4),
    }


def band_words(bands: Bands) -> Iterator[str]:
    """Write bands as `5570-5584`, in Angstrom."""
    for first, last in bands:
        yield f"{_plain(first)}-{_plain(last)}"


def read_bands(text: str) -> Bands:
    """Read the bands that `mask_attributes` wrote."""
    ends = (word.split("-") for word in text.split(", ") if word)
    return tuple((float(first), float(last)) for first, last in ends)


def _plain(value: float) -> str:
    return f"{value:.0f}" if math.isclose(value, round(value), abs_tol=1e-6) else f"{value:.4f}".rstrip("0")
