"""One block of a cube, from native spectra to products: three pure steps, no Dask and no files."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from galprote.model.grids import WAVELENGTH
from galprote.model.populations import Populations
from galprote.model.predictor import Predictor
from galprote.pipeline.motion import settle, shared_fitter
from galprote.pipeline.moving import preprocess_moving
from galprote.pipeline.native_continuum import native_continuum, native_continuum_error
from galprote.pipeline.painting import paint, paint_difference, paint_residual
from galprote.pipeline.photometry import Photometry
from galprote.pipeline.preprocess import SpectraBatch, preprocess
from galprote.pipeline.quality import Status
from galprote.pipeline.quantities import quantities, remarks
from galprote.pipeline.rest_frame import PreprocessSettings

#: A fit is poor when its residuals exceed this share of the flux, and so many times the noise.
POOR_RMS, POOR_NOISE = 0.05, 3.0

#: Maps that every fitted spectrum has.
ALWAYS = ("age_lw", "metallicity_lw", "av")

#: Field of `Populations` -> map.
POPULATIONS = {
    "log_age": "age_lw",
    "log_age_error": "age_lw_error",
    "metallicity": "metallicity_lw",
    "metallicity_error": "metallicity_lw_error",
    "av": "av",
    "av_error": "av_error",
    "log_age_mw": "age_mw",
    "log_age_mw_error": "age_mw_error",
    "metallicity_mw": "metallicity_mw",
    "metallicity_mw_error": "metallicity_mw_error",
    "mass_to_light": "mass_to_light",
    "mass_to_light_error": "mass_to_light_error",
    "t50": "t50",
    "t90": "t90",
    "trust": "trust",
    "noise_scale": "noise_scale",
}


@dataclass(frozen=True)
class BlockSettings:
    """What a block is computed with.

    Attributes
    ----------
    preprocess : PreprocessSettings
    residual, continuum_subtracted, grid : bool
        Which cubes to make besides the maps.
    flux_calibration_error : float
        Expected scatter of a smooth error of the flux calibration, relative.
    template_error : float
        Expected difference of the stars from the templates, relative.
    photometry : Photometry
        What leads from flux to mass.
    max_velocity_kms : float, optional
        Measure the spectra's kinematics first, so far from the galaxy's redshift.
    excess_square : float
        Squared dispersion, (km/s)^2, that the instrument adds to the stars'.
    """

    preprocess: PreprocessSettings
    residual: bool
    continuum_subtracted: bool
    grid: bool
    flux_calibration_error: float = 0.01
    template_error: float = 0.01
    photometry: Photometry = field(default_factory=Photometry)
    max_velocity_kms: float | None = None
    excess_square: float = 0.0


@dataclass(frozen=True)
class PreparedBlock:
    """A block after preprocessing.

    Attributes
    ----------
    shape : tuple of int
        Of the image: rows and columns, or bins.
    batch : SpectraBatch
        Of its spectra.
    redshift : (k,) float64
        Of the spectra to fit: the galaxy's, and their own velocities.
    native, native_variance : (m, k) float32 or None
        Native flux of the spectra to fit, and its variance, kept only for the continuum-subtracted cube.
    motion : dict of (k,) float32
        What is known of their stars' motion, by the maps' names, km/s.
    unsettled : tuple of two (m, n) float32 or None
        Native flux and variance of all spectra, where their kinematics have yet to be measured.
    """

    shape: tuple[int, ...]
    batch: SpectraBatch
    redshift: NDArray[np.float64]
    native: NDArray[np.float32] | None
    native_variance: NDArray[np.float32] | None
    motion: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    unsettled: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None


@dataclass(frozen=True)
class FittedBlock:
    """A block after the model.

    Attributes
    ----------
    prepared : PreparedBlock
    values : dict of (k,) float32
        By the names of their maps.
    dispersion, velocity, shift : (k,) float32
        As in `Predictions`, km/s.
    grid : (k, n_metallicity, n_age) float32 or None
    model : (k, 948) float32
        Model spectra that fit the observed ones, in units of these' median flux.
    continuum, continuum_error : (m, k) float32 or None
        Model on the native channels, in the cube's unit and behind the foreground dust, and its error.
    remarks : (k,) int32
        Bits of `Status` that the model's answer gives.
    """

    prepared: PreparedBlock
    values: dict[str, NDArray[np.float32]]
    dispersion: NDArray[np.float32]
    velocity: NDArray[np.float32]
    shift: NDArray[np.float32]
    grid: NDArray[np.float32] | None
    model: NDArray[np.float32]
    continuum: NDArray[np.float32] | None
    continuum_error: NDArray[np.float32] | None
    remarks: NDArray[np.int32]


@dataclass(frozen=True)
class BlockProducts:
    """What is written of a block: `maps` by name, of the image's shape, and cubes by name.

    Cubes have the image's dimensions last, but for `grid`, which has them first.
    """

    maps: dict[str, NDArray[np.generic]]
    cubes: dict[str, NDArray[np.floating]]
    fitted: int


def prepare_block(
    flux: NDArray[np.float32],
    variance: NDArray[np.float32],
    excluded: NDArray[np.int32] | None,
    settings: BlockSettings,
    velocity: NDArray[np.float32] | None = None,
) -> PreparedBlock:
    """Preprocess a block of spectra.

    Parameters
    ----------
    flux, variance : (m, rows, columns) or (m, bins) float32
    excluded : (rows, columns) int32 or None
        Bits of `Status` of the spectra to leave out.
    settings : BlockSettings
    velocity : (rows, columns) or (bins,) float32, optional
        Of the spectra relative to the galaxy's redshift, km/s.
    """
    m, *shape = flux.shape
    spectra, noise = flux.reshape(m, -1), variance.reshape(m, -1)
    flat = None if excluded is None else excluded.ravel()
    motion: dict[str, NDArray[np.float32]] = {}
    if velocity is None:
        batch = preprocess(spectra, noise, settings.preprocess, flat)
        redshift = np.full(int(batch.fitted.sum()), settings.preprocess.redshift)
    else:
        batch, redshift = preprocess_moving(spectra, noise, settings.preprocess, velocity.ravel(), flat)
        motion["v_stars"] = velocity.ravel()[batch.fitted]
    block = PreparedBlock(tuple(shape), batch, redshift, None, None, motion)
    if settings.max_velocity_kms is not None:
        return replace(block, unsettled=(spectra, noise))
    return with_native(block, spectra, noise, settings)


def with_native(
    block: PreparedBlock, flux: NDArray[np.float32], variance: NDArray[np.float32], settings: BlockSettings
) -> PreparedBlock:
    """Keep the native spectra (m, n) of those that are fitted, if they are needed."""
    if not settings.continuum_subtracted:
        return block
    if not block.batch.fitted.all():
        flux, variance = (np.compress(block.batch.fitted, values, axis=1) for values in (flux, variance))
    return replace(block, native=flux, native_variance=variance)


def settle_block(prepared: PreparedBlock, settings: BlockSettings, predictor: Predictor) -> PreparedBlock:
    """Measure the kinematics of a block's spectra, and take each to its rest frame, if that is wanted."""
    if prepared.unsettled is None or settings.max_velocity_kms is None:
        return prepared
    fitter = shared_fitter(predictor, settings.max_velocity_kms)
    native = prepared.unsettled
    batch, redshift, motion = settle(prepared.batch, *native, settings.preprocess, fitter, settings.excess_square)
    block = PreparedBlock(prepared.shape, batch, redshift, None, None, motion)
    return with_native(block, *native, settings)


def predict_block(prepared: PreparedBlock, settings: BlockSettings, predictor: Predictor) -> FittedBlock:
    """Run the model over a prepared block, after its kinematics if they are to be measured."""
    prepared = settle_block(prepared, settings, predictor)
    batch, redshift = prepared.batch, settings.preprocess.redshift
    own = prepared.redshift.astype(np.float32)
    found = predictor(batch.spectra, batch.noise, settings.flux_calibration_error, own, settings.template_error)
    flux = batch.flux[batch.fitted]
    scale = flux * found.gain
    continuum = continuum_error = None
    with np.errstate(all="ignore"):  # of what is not finite `final_status` says so
        if settings.continuum_subtracted:
            continuum = native_continuum(found, scale, prepared.redshift, settings.preprocess, predictor)
            continuum_error = native_continuum_error(found.model_error, flux, settings.preprocess)
        values = quantities(found, flux, redshift, settings.photometry, predictor)
    return FittedBlock(
        prepared,
        values,
        found.dispersion,
        found.velocity,
        found.shift,
        found.grid if settings.grid else None,
        found.model * found.gain[:, None],
        continuum,
        continuum_error,
        remarks(found, float(predictor.model.av_classes[-1])),
    )


def residual_statistics(batch: SpectraBatch, model: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rms of observed minus model over the samples with observed flux, relative to the median flux: (k,) float32."""
    scaled = batch.rebinned / batch.flux[batch.fitted][:, None]
    with np.errstate(over="ignore"):  # infinite is no answer: see `final_status`
        squared = np.where(batch.used, (scaled - model) ** 2, 0.0)
    count = np.maximum(batch.used.sum(axis=1), 1)
    rms: NDArray[np.float32] = np.sqrt(squared.sum(axis=1, dtype=np.float64) / count).astype(np.float32)
    return rms


def final_status(fitted: FittedBlock, rms: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """All bits of every spectrum (n,), and which of the fitted ones (k,) have finite values."""
    batch = fitted.prepared.batch
    status = batch.status.copy()
    finite = np.isfinite(fitted.model).all(axis=1)
    for name, values in fitted.values.items():  # errors, trust and masses may be missing, but nothing may be infinite
        finite &= np.isfinite(values) if name in ALWAYS else ~np.isinf(values)
    if fitted.grid is not None:
        finite &= np.isfinite(fitted.grid).all(axis=(1, 2))
    finite &= np.isfinite(rms)
    noise = 1 / np.maximum(batch.snr[batch.fitted], 1e-6)
    poor = (rms > POOR_RMS) & (rms > POOR_NOISE * noise)
    bits = fitted.remarks | np.where(poor, np.int32(Status.POOR_FIT), np.int32(0))
    status[batch.fitted] |= np.where(finite, bits, np.int32(Status.FAILED))
    return status, finite


def finish_block(fitted: FittedBlock, settings: BlockSettings) -> BlockProducts:
    """Paint a fitted block back on the image."""
    prepared = fitted.prepared
    batch, shape = prepared.batch, prepared.shape
    size = len(batch.status)
    rms = residual_statistics(batch, fitted.model)
    status, finite = final_status(fitted, rms)

    columns = np.flatnonzero(batch.fitted)[finite]

    def some(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        return values if finite.all() else np.compress(finite, values, axis=axis)

    found = fitted.values | prepared.motion | {"residual_rms": rms}
    maps: dict[str, NDArray[np.generic]] = {
        name: paint(some(values, 0), columns, size).reshape(shape) for name, values in found.items()
    }
    whole: dict[str, NDArray[np.generic]] = {
        "flux": batch.flux,
        "snr": batch.snr,
        "filled_fraction": batch.filled_fraction,
        "replaced_samples": batch.replaced,
        "status": status,
    }
    maps |= {name: values.reshape(shape) for name, values in whole.items()}
    cubes: dict[str, NDArray[np.floating]] = {}
    if settings.residual:
        parts = (some(values, 0) for values in (batch.rebinned, fitted.model, batch.flux[batch.fitted]))
        cubes["residual"] = paint_residual(columns, size, *parts).reshape(-1, *shape)
    native = (prepared.native, prepared.native_variance, fitted.continuum, fitted.continuum_error)
    if all(values is not None for values in native):
        parts = (some(values, 1) for values in native if values is not None)
        difference, noise = paint_difference(columns, size, *parts)
        cubes["continuum_subtracted"] = difference.reshape(-1, *shape)
        cubes["continuum_subtracted_error"] = noise.reshape(-1, *shape)
    if fitted.grid is not None:
        cells = fitted.grid.shape[1:]
        grid = np.full((size, *cells), np.nan, dtype=np.float16)
        # torch: numpy takes a hundred times as long for the same bits.
        grid[columns] = torch.from_numpy(some(fitted.grid, 0)).half().numpy()
        cubes["grid"] = grid.reshape(*shape, *cells)
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
        raise ValueError("settings.grid must be on")
    model_flux = fitted.model * batch.flux[batch.fitted][:, None]
    assert model_flux.shape[1] == len(WAVELENGTH)
    values = {name: place(fitted.values[product]) for name, product in POPULATIONS.items()}
    return Populations(
        grid=place(fitted.grid),
        model_flux=place(model_flux),
        dispersion=place(fitted.dispersion),
        velocity=place(fitted.velocity),
        status=status,
        **values,
    )
