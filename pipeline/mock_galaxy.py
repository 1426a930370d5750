"""What a mock galaxy is: its configuration, and maps of light, ages, metals, dust, gas and motion.

A spiral seen inclined: an exponential disc and a bulge, two logarithmic arms with HII regions, dust lanes along the
arms' inner edges, gradients of age and metallicity. Distances are in units of half the shorter side of the cube, so
that a larger cube shows the same galaxy in more detail.

Shapes: (ny, nx), rows first, as in the cube.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from galprote.model.extinction import extinction_curve
from galprote.model.grids import EDGES

FIRST_WAVELENGTH: Final = 4700.0
CHANNEL: Final = 1.25
SPAXEL_ARCSEC: Final = 0.2
SPEED_OF_LIGHT_KMS: Final = 299_792.458

#: Half width of the mosaic and its tilt (degrees): what leaves the corners of the cube empty.
MOSAIC_HALF_WIDTH: Final = 0.82
MOSAIC_TILT: Final = 13.0
#: Slices of the sky on which residuals of the sky subtraction are coherent: in one pointing, and in all four.
SLICES: Final = 24
ALL_SLICES: Final = 4 * SLICES

_ARMS: Final = 2
_PITCH_DEG: Final = 21.0
_DISC_SCALE: Final = 0.5
_BULGE_SCALE: Final = 0.08
_BULGE_SHARE: Final = 0.65
_HII_REGIONS: Final = 90

Map = NDArray[np.float64]


class MockConfig(BaseModel):
    """A mock cube: a spiral galaxy as PHANGS-MUSE would see it, with known truth."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("MOCK", pattern=r"^[ -~]{1,60}$")
    """Name of the galaxy, OBJECT in the headers."""
    shape: tuple[int, int] = (100, 100)
    """Rows and columns of spaxels (0.2 arcsec each)."""
    seed: int = Field(1, ge=0)
    """Seed of the arms' details and of the noise."""
    redshift: float = Field(0.008, ge=0, le=0.2)
    """Barycentric systemic redshift."""
    ebv: float = Field(0.03, ge=0, le=2)
    """Foreground E(B-V), mag, by which the cube is reddened: O'Donnell (1994) with R_V = 3.1."""
    wavelength_last_A: float = Field(7400.0, le=9400)
    """Red end of the cube, observed air Angstrom (PHANGS: 9350); the blue end is 4700, a channel is 1.25 wide."""
    peak_flux: float = Field(1500.0, gt=0)
    """Median flux density of the brightest spaxel before foreground dust, 1e-20 erg/s/cm2/Angstrom."""
    peak_snr: float = Field(40.0, gt=0)
    """Signal-to-noise ratio per channel of a spaxel of that flux, away from sky lines."""
    sky_noise: float = Field(9.0, gt=0)
    """Noise of a spaxel without light, per channel, away from sky lines, 1e-20 erg/s/cm2/Angstrom: by default the
    signal-to-noise ratio falls to about 5 near the edge."""
    rotation_kms: float = Field(60.0, ge=0, le=600)
    """Projected amplitude of the rotation curve, km/s."""
    inclination_deg: float = Field(35.0, ge=0, le=75)
    """Inclination of the disc; 0 is face-on."""
    position_angle_deg: float = 30.0
    """Position angle of the receding half of the major axis, north through east."""
    noise: bool = True
    """Add noise to DATA. STAT is its variance either way."""
    emission: bool = True
    """Add emission lines of the gas."""
    sky_residuals: bool = True
    """Add residuals of the sky subtraction at bright sky lines, which STAT does not know of."""
    ao_notch: bool = False
    """Blank 5806.25-5963.75 Angstrom, as in cubes taken with the adaptive optics' sodium laser."""
    bad_variance_fraction: float = Field(1e-4, ge=0, le=0.5)
    """Share of voxels with finite DATA whose STAT is zero, negative or NaN, in runs of a few channels."""
    empty_corners: bool = True
    """Leave the corners outside a tilted mosaic of four pointings empty (NaN)."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if min(self.shape) < 4 or max(self.shape) > 4096:
            raise ValueError(f"shape = {list(self.shape)}: expected two sizes between 4 and 4096")
        fastest = 1 + self.rotation_kms / SPEED_OF_LIGHT_KMS
        needed = EDGES[-1] * (1 + self.redshift) * fastest
        if self.wavelength_last_A < needed:
            raise ValueError(
                f"wavelength_last_A = {self.wavelength_last_A:g}: expected at least {np.ceil(needed):.0f}, the model's "
                f"red end at redshift {self.redshift:g}"
            )
        if self.sky_noise > self.peak_flux / self.peak_snr:
            raise ValueError(
                f"sky_noise = {self.sky_noise:g}: expected at most peak_flux / peak_snr = "
                f"{self.peak_flux / self.peak_snr:.4g}, the whole noise of the brightest spaxel"
            )
        return self

    @property
    def wavelength(self) -> NDArray[np.float64]:
        """Observed air wavelengths of the channels' centres, Angstrom, (n,) float64."""
        n = int((self.wavelength_last_A - FIRST_WAVELENGTH) / CHANNEL + 1e-6) + 1
        return FIRST_WAVELENGTH + CHANNEL * np.arange(n, dtype=np.float64)


@dataclass(frozen=True)
class Galaxy:
    """Maps of a mock galaxy, all (ny, nx) float64 unless said otherwise.

    Attributes
    ----------
    inside : (ny, nx) bool
        Observed spaxels.
    flux : Map
        Median stellar flux density in the model's window, dimmed by the galaxy's own dust, 1e-20 erg/s/cm2/Angstrom.
    young_fraction : Map
        Share of that light from the young population.
    log_age_old, log_age_young : Map
        Centres of the two populations, log10(age / yr).
    metallicity : Map
        Centre of the old population, [M/H].
    av : Map
        Attenuation of the stars, mag; the gas has twice as much.
    velocity_kms : Map
        Relative to the systemic redshift, stars and gas alike.
    halpha_ew : Map
        Equivalent width of Halpha in emission, as seen through the dust, rest-frame Angstrom.
    sky_slice : (ny, nx) int64
        Which of `ALL_SLICES` slices of the four pointings a spaxel was observed with.
    """

    inside: NDArray[np.bool_]
    flux: Map
    young_fraction: Map
    log_age_old: Map
    log_age_young: Map
    metallicity: Map
    av: Map
    velocity_kms: Map
    halpha_ew: Map
    sky_slice: NDArray[np.int64]


def make_galaxy(config: MockConfig) -> Galaxy:
    """Lay out the galaxy on the sky.

    Parameters
    ----------
    config : MockConfig

    Returns
    -------
    Galaxy
    """
    random = np.random.default_rng([config.seed, 0])
    x, y = _sky_coordinates(config.shape)
    major, minor, along = _disc_coordinates(x, y, config)
    radius, angle = np.maximum(np.hypot(major, minor), 1e-3), np.arctan2(minor, major)
    texture = _texture(major, minor, random)
    outside_bulge = 1 - np.exp(-((radius / 0.22) ** 2))
    ragged = angle + 0.09 * texture  # no arm follows its spiral exactly
    arm = _arms(radius, ragged, sharpness=3.5) * outside_bulge
    lane = _arms(radius / 0.86, ragged, sharpness=8.0) * outside_bulge
    hii = _hii_regions(major, minor, random) * outside_bulge
    brightening = (0.7 + 1.0 * arm + 0.6 * hii) * (1 + 0.1 * texture)
    light, bulge_fraction = _stars(np.hypot(major, along), radius, brightening)
    diffuse = (0.06 + 0.26 * np.exp(-radius / 0.5)) * (1 + 0.25 * texture)
    av = np.clip(diffuse + lane * (1.1 - 0.5 * radius) * (1 + 0.15 * texture) + 0.15 * hii, 0.0, 1.3)
    light *= 10 ** (-0.4 * av * extinction_curve(np.array([5925.0]))[0])
    young = (1 - bulge_fraction) * np.clip(0.05 + 0.45 * arm + 0.2 * hii + 0.03 * texture, 0.02, 0.75)
    inside, sky_slice = _mosaic(x, y, config)
    return Galaxy(
        inside=inside,
        flux=config.peak_flux * light / light[inside].max(),
        young_fraction=young,
        log_age_old=10.03 * bulge_fraction + (1 - bulge_fraction) * (9.72 - 0.5 * np.minimum(radius, 1.3)),
        log_age_young=8.45 - 0.35 * arm - 0.35 * hii,
        metallicity=np.clip(0.27 - 0.72 * radius + 0.03 * texture, -0.6, 0.25),
        av=av,
        velocity_kms=config.rotation_kms * np.cos(angle) * np.tanh(radius / 0.15),
        halpha_ew=np.minimum((1 - 0.8 * bulge_fraction) * (3.5 + 17.0 * arm**1.5 + 85.0 * hii), 100.0),
        sky_slice=sky_slice,
    )


def _sky_coordinates(shape: tuple[int, int]) -> tuple[Map, Map]:
    """Offsets from the centre to the right and up, in pixels over half the shorter side."""
    ny, nx = shape
    half = min(shape) / 2
    y, x = np.meshgrid((np.arange(ny) - (ny - 1) / 2) / half, (np.arange(nx) - (nx - 1) / 2) / half, indexing="ij")
    return x, y


def _disc_coordinates(x: Map, y: Map, config: MockConfig) -> tuple[Map, Map, Map]:
    """Offsets along the major and the deprojected minor axis, and along the minor axis as seen."""
    angle = np.deg2rad(config.position_angle_deg)  # east is to the left
    major = -np.sin(angle) * x + np.cos(angle) * y
    along = np.cos(angle) * x + np.sin(angle) * y
    return major, along / np.cos(np.deg2rad(config.inclination_deg)), along


def _stars(on_sky: Map, radius: Map, brightening: Map) -> tuple[Map, Map]:
    """Light without dust of a round bulge and a disc, in units of their peak; and the bulge's share of it."""
    bulge = _BULGE_SHARE * np.exp(-on_sky / _BULGE_SCALE)
    disc = (1 - _BULGE_SHARE) * np.exp(-radius / _DISC_SCALE) * brightening
    return bulge + disc, bulge / (bulge + disc)


def _ridge(radius: Map) -> Map:
    """Azimuth of the first arm's ridge: a logarithmic spiral."""
    return np.asarray(np.log(radius / 0.2) / np.tan(np.deg2rad(_PITCH_DEG)))


def _arms(radius: Map, angle: Map, *, sharpness: float) -> Map:
    """Strength of the arms: one on their ridges, falling with azimuth (von Mises)."""
    return np.asarray(np.exp(sharpness * (np.cos(_ARMS * (angle - _ridge(radius))) - 1)))


def _hii_regions(major: Map, minor: Map, random: np.random.Generator) -> Map:
    """Clumps strung along the arms, each at most one, with a steep luminosity function."""
    total = np.zeros(major.shape)
    for _ in range(_HII_REGIONS):
        radius = np.sqrt(random.uniform(0.25**2, 1.25**2))
        ridge = float(_ridge(np.array(radius)))
        angle = ridge + np.pi * random.integers(_ARMS) + random.normal(0.0, 0.16)
        size = 0.022 + 0.013 * random.random()
        strength = min(0.13 * random.random() ** (-1 / 1.3), 1.6)
        distance = (major - radius * np.cos(angle)) ** 2 + (minor - radius * np.sin(angle)) ** 2
        total += strength * np.exp(-distance / (2 * size**2))
    return np.asarray(total / (1 + 0.4 * total))


def _texture(major: Map, minor: Map, random: np.random.Generator) -> Map:
    """A random field of unit variance: 16 plane waves, smooth at the scale of a few spaxels."""
    total = np.zeros(major.shape)
    for _ in range(16):
        wavenumber, direction, phase = random.uniform(4, 22), random.uniform(0, np.pi), random.uniform(0, 2 * np.pi)
        total += np.cos(wavenumber * (major * np.cos(direction) + minor * np.sin(direction)) + phase)
    return np.asarray(total / np.sqrt(8))


def _mosaic(x: Map, y: Map, config: MockConfig) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Footprint of a tilted mosaic of two by two pointings, not quite aligned; and the slice of each spaxel."""
    half_x, half_y = np.array(config.shape)[::-1] / min(config.shape)
    tilt = np.deg2rad(MOSAIC_TILT)
    across = np.cos(tilt) * x / half_x + np.sin(tilt) * y / half_y
    up = -np.sin(tilt) * x / half_x + np.cos(tilt) * y / half_y
    shifted_across, shifted_up = across + 0.03 * np.sign(up), up - 0.02 * np.sign(across)
    inside = np.maximum(np.abs(shifted_across), np.abs(shifted_up)) <= MOSAIC_HALF_WIDTH
    pointing = 2 * (shifted_across > 0) + (shifted_up > 0)
    position = np.floor(np.abs(shifted_up) * SLICES / MOSAIC_HALF_WIDTH).astype(np.int64) % SLICES
    return (inside if config.empty_corners else np.ones_like(inside)), pointing * SLICES + position
