"""One block of a cube, from native spectra to products: three pure steps, no Dask and no files."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from galprote.model.grids import WAVELENGTH
from galprote.model.populations import Populations, grid_means
from galprote.model.predictor import Predictions, Predictor
from galprote.model.reconstruction import LOG_EDGES, Reconstruction
from galprote.pipeline.preprocess import PreprocessSettings, SpectraBatch, foreground_extinction, preprocess
from galprote.pipeline.products import INTERNAL_R_V
from galprote.pipeline.quality import Status
from galprote.pipeline.rebin import edges_of, rebin_matrix

#: A fit is poor when its residuals exceed this share of the flux, and so many times the noise.
POOR_RMS, POOR_NOISE = 0.05, 3.0

#: Light in the three youngest or oldest templates above which the age is at the boundary, and A_V's distance from it.
BOUNDARY_LIGHT, BOUNDARY_AV = 0.5, 0.05


@dataclass(frozen=True)
class BlockSettings:
    """What a block is computed with.

    Attributes
    ----------
    preprocess : PreprocessSettings
    residual, continuum_subtracted, light_grid : bool
        Which cubes to make besides the maps.
    flux_calibration_error : float
        Expected scatter of a smooth error of the flux calibration, relative.
    """

    preprocess: PreprocessSettings
    residual: bool
    continuum_subtracted: bool
    light_grid: bool
    flux_calibration_error: float = 0.01


@dataclass(frozen=True)
class PreparedBlock:
    """A block after preprocessing.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    batch : SpectraBatch
        Of the rows x columns spectra.
    native : (m, k) float32 or None
        Native flux of the spectra to fit, kept only for the continuum-subtracted cube.
    """

    shape: tuple[int, int]
    batch: SpectraBatch
    native: NDArray[np.float32] | None


@dataclass(frozen=True)
class FittedBlock:
    """A block after the model.

    Attributes
    ----------
    prepared : PreparedBlock
    log_age, metallicity, av, dispersion, velocity : (k,) float32
    grid : (k, n_metallicity, n_age) float32 or None
    model : (k, 948) float32
        Model spectra, median of what the network would see of them one.
    continuum : (m, k) float32 or None
        Model on the native channels, in the cube's unit and behind the foreground dust.
    boundary : (k,) uint16
        Bits for ages and A_V at the ends of the model's range.
    """

    prepared: PreparedBlock
    log_age: NDArray[np.float32]
    metallicity: NDArray[np.float32]
    av: NDArray[np.float32]
    dispersion: NDArray[np.float32]
    velocity: NDArray[np.float32]
    grid: NDArray[np.float32] | None
    model: NDArray[np.float32]
    continuum: NDArray[np.float32] | None
    boundary: NDArray[np.uint16]


@dataclass(frozen=True)
class BlockProducts:
    """What is written of a block: `maps` by name (rows, columns), and cubes (..., rows, columns) by name."""

    maps: dict[str, NDArray[np.generic]]
    cubes: dict[str, NDArray[np.float32]]
    fitted: int


def prepare_block(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    excluded: NDArray[np.bool_] | None,
    settings: BlockSettings,
) -> PreparedBlock:
    """Preprocess a block of a cube.

    Parameters
    ----------
    flux, variance : (m, rows, columns) float32
    excluded : (rows, columns) bool or None
    settings : BlockSettings
    """
    m, rows, columns = flux.shape
    spectra = flux.reshape(m, -1)
    flat = None if excluded is None else excluded.ravel()
    batch = preprocess(spectra, variance.reshape(m, -1), settings.preprocess, flat)
    native = np.compress(batch.fitted, spectra, axis=1) if settings.continuum_subtracted else None
    return PreparedBlock((rows, columns), batch, native)


def predict_block(prepared: PreparedBlock, settings: BlockSettings, predictor: Predictor) -> FittedBlock:
    """Run the model over a prepared block."""
    decoder = predictor.checkpoint.decoder
    batch = prepared.batch
    found = predictor(batch.spectra, batch.noise, settings.flux_calibration_error)
    log_age, metallicity = grid_means(found.grid, decoder.log_ages, decoder.metallicities)
    by_age = found.grid.sum(axis=1)
    ends = np.maximum(by_age[:, :3].sum(axis=1), by_age[:, -3:].sum(axis=1))
    av_end = found.av > float(predictor.model.av_classes[-1]) - BOUNDARY_AV
    boundary = np.where(ends > BOUNDARY_LIGHT, Status.AGE_BOUNDARY, 0) | np.where(av_end, Status.AV_BOUNDARY, 0)
    continuum = None
    if settings.continuum_subtracted:
        continuum = native_continuum(found, batch.flux[batch.fitted], settings.preprocess, predictor)
    return FittedBlock(
        prepared,
        log_age,
        metallicity,
        found.av,
        found.dispersion,
        found.velocity,
        found.grid if settings.light_grid else None,
        found.model,
        continuum,
        boundary.astype(np.uint16),
    )


def native_continuum(
    found: Predictions,
    scale: NDArray[np.float32],
    settings: PreprocessSettings,
    predictor: Predictor,
) -> NDArray[np.float32]:
    """Model spectra on a cube's native channels, as observed: redshifted and behind the foreground dust.

    Parameters
    ----------
    found : Predictions
        Of k spectra.
    scale : (k,) float32
        Their median flux.
    settings : PreprocessSettings
    predictor : Predictor

    Returns
    -------
    (m, k) float32
        The cube's unit; NaN in channels beyond the templates' range.
    """
    edges = edges_of(np.array(settings.wavelength))
    fine = LOG_EDGES * (1 + settings.redshift)
    inside = (edges[:-1] >= fine[0]) & (edges[1:] <= fine[-1])
    used = edges[np.flatnonzero(inside)[0] : np.flatnonzero(inside)[-1] + 2]
    matrix = rebin_matrix(fine, used)
    dim = (10 ** (-0.4 * foreground_extinction(settings)[inside])).astype(np.float32)
    continuum = np.full((len(inside), len(scale)), np.nan, dtype=np.float32)
    reconstruct = _reconstruction(predictor)
    for start in range(0, len(scale), 256):
        part = slice(start, start + 256)
        spectra = reconstruct(found.grid[part], found.av[part], found.dispersion[part], found.velocity[part])
        continuum[inside, part] = (matrix @ np.ascontiguousarray(spectra.T)) * dim[:, None] * scale[part]
    return continuum


@lru_cache(maxsize=2)
def _reconstruction(predictor: Predictor) -> Reconstruction:
    """Made when it is first wanted: most surveys do without."""
    return Reconstruction(predictor.checkpoint.decoder, predictor.model.config.visible)


def residual_statistics(batch: SpectraBatch, model: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rms of observed minus model over the samples with observed flux, relative to the median flux: (k,) float32."""
    scaled = batch.rebinned / batch.flux[batch.fitted][:, None]
    squared = np.where(batch.used, (scaled - model) ** 2, 0.0)
    count = np.maximum(batch.used.sum(axis=1), 1)
    rms: NDArray[np.float32] = np.sqrt(squared.sum(axis=1, dtype=np.float64) / count).astype(np.float32)
    return rms


def final_status(fitted: FittedBlock, rms: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """All bits of every spectrum (n,), and which of the fitted ones (k,) have finite values."""
    batch = fitted.prepared.batch
    status = batch.status.copy()
    finite = np.isfinite(fitted.log_age) & np.isfinite(fitted.metallicity) & np.isfinite(fitted.av)
    noise = 1 / np.maximum(batch.snr[batch.fitted], 1e-6)
    poor = (rms > POOR_RMS) & (rms > POOR_NOISE * noise)
    bits = fitted.boundary | np.where(poor, np.uint16(Status.POOR_FIT), np.uint16(0))
    status[batch.fitted] |= np.where(finite, bits, np.uint16(Status.FAILED))
    return status, finite


def finish_block(fitted: FittedBlock, settings: BlockSettings) -> BlockProducts:
    """Paint a fitted block back on the image."""
    batch, (rows, columns) = fitted.prepared.batch, fitted.prepared.shape
    rms = residual_statistics(batch, fitted.model)
    status, finite = final_status(fitted, rms)

    def paint(values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., k) values of the fitted spectra -> (..., rows, columns), NaN elsewhere."""
        image = np.full((*values.shape[:-1], rows * columns), np.nan, dtype=np.float32)
        image[..., batch.fitted] = np.where(finite, values, np.float32(np.nan))
        return image.reshape(*values.shape[:-1], rows, columns)

    maps: dict[str, NDArray[np.generic]] = {
        "age_lw": paint(fitted.log_age),
        "metallicity_lw": paint(fitted.metallicity),
        "av": paint(fitted.av),
        "ebv_stars": paint(fitted.av / np.float32(INTERNAL_R_V)),
        "residual_rms": paint(rms),
    }
    whole: dict[str, NDArray[np.generic]] = {
        "flux": batch.flux,
        "snr": batch.snr,
        "filled_fraction": batch.filled_fraction,
        "replaced_samples": batch.replaced,
        "status": status,
    }
    maps |= {name: values.reshape(rows, columns) for name, values in whole.items()}
    cubes: dict[str, NDArray[np.float32]] = {}
    if settings.residual:
        scale = batch.flux[batch.fitted][:, None]
        cubes["residual"] = paint((batch.rebinned - fitted.model * scale).T)
    if fitted.continuum is not None and fitted.prepared.native is not None:
        cubes["continuum_subtracted"] = paint(fitted.prepared.native - fitted.continuum)
    if fitted.grid is not None:
        cubes["light_grid"] = paint(np.moveaxis(fitted.grid, 0, -1))
    return BlockProducts(maps, cubes, int(finite.sum()))


def populations_of(fitted: FittedBlock) -> Populations:
    """The same for a list of spectra: results in the input's order, NaN where not fitted."""
    batch = fitted.prepared.batch
    status, finite = final_status(fitted, residual_statistics(batch, fitted.model))
    n = len(status)

    def place(values: NDArray[np.float32]) -> NDArray[np.float32]:
        full = np.full((n, *values.shape[1:]), np.nan, dtype=np.float32)
        full[np.flatnonzero(batch.fitted)[finite]] = values[finite]
        return full

    if fitted.grid is None:
        raise ValueError("settings.light_grid must be on")
    model_flux = fitted.model * batch.flux[batch.fitted][:, None]
    assert model_flux.shape[1] == len(WAVELENGTH)
    return Populations(
        place(fitted.log_age),
        place(fitted.metallicity),
        place(fitted.av),
        place(fitted.grid),
        place(model_flux),
        place(fitted.dispersion),
        place(fitted.velocity),
        status,
    )
