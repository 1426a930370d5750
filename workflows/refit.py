"""Spaxels of a finished galaxy, fitted again from its cube: spectra, models, masks and grids that no map holds.

The settings are those of the store, the weights must be the ones that made it, and velocities come from its maps, so
that a spaxel gives what the run gave.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.model.checkpoint import load_checkpoint
from galprote.model.errors import CheckpointError, CubeError
from galprote.model.grids import WAVELENGTH
from galprote.model.kinematics import C_KMS
from galprote.model.populations import Populations
from galprote.model.predictor import Predictor, shared_predictor
from galprote.pipeline.block import BlockSettings, PreparedBlock, populations_of, predict_block, prepare_block
from galprote.pipeline.config import GalaxyConfig
from galprote.pipeline.graph import describe_model
from galprote.pipeline.maps import open_maps
from galprote.pipeline.mask_config import MasksConfig
from galprote.pipeline.moving import STEP_KMS
from galprote.pipeline.preprocess import SpectraBatch
from galprote.pipeline.provenance import NUMERIC_VERSION
from galprote.pipeline.readers import open_cube
from galprote.pipeline.rest_frame import LARGEST_FLUX, is_variance, rebin_to_rest
from galprote.pipeline.spectral_masks import WavelengthMasks, masked_samples, read_bands, wavelength_masks
from galprote.workflows.cube_spectra import Places, as_places, mean_of, read_spectra
from galprote.workflows.galaxy import block_settings

Spectra = NDArray[np.float32]
Samples = NDArray[np.bool_]


@dataclass(frozen=True)
class Refits:
    """Fits of n spectra, at rest-frame `wavelength`, without the foreground's dust.

    Attributes
    ----------
    wavelength : (948,) float64
        Air, Angstrom.
    flux, error : (n, 948) float32
        Observed, and its standard deviation; NaN without data. In the cube's unit per Angstrom of the observed frame.
    model : (n, 948) float32
        NaN where a spectrum was not fitted.
    bands : (948,) bool
        Emission bands, and other samples that the network does not use.
    masked : (n, 948) bool
        Others without data, or left out by wavelength masks.
    replaced : (n, 948) bool
        Others that the line filter replaced.
    snr : (n,) float32
        Median signal-to-noise ratio of a sample of 2.48 A.
    batch : SpectraBatch
        The same spectra as the network got them.
    populations : Populations
    log_ages, metallicities : (n_age,), (n_metallicity,) float64
        Axes of `populations.grid`.
    """

    wavelength: NDArray[np.float64]
    flux: Spectra
    error: Spectra
    model: Spectra
    bands: Samples
    masked: Samples
    replaced: Samples
    snr: NDArray[np.float32]
    batch: SpectraBatch
    populations: Populations
    log_ages: NDArray[np.float64]
    metallicities: NDArray[np.float64]

    @property
    def used(self) -> Samples:
        """Samples that decided the fits, (n, 948) bool."""
        return ~(self.bands | self.masked | self.replaced)


class Refitter:
    """Fits spaxels of a galaxy again.

    Parameters
    ----------
    store : Path
        A finished `<name>.zarr`.
    cube : Path
        The cube that it was made from.
    checkpoint : Path, optional
        The weights that it was made with; the shipped ones by default.

    Raises
    ------
    MapsError
        If the store is not a finished one.
    CubeError
        If the cube cannot be used, or is not the one the store was made from.
    CheckpointError
        If the weights are not the ones the store was made with.
    """

    def __init__(self, store: Path, cube: Path, checkpoint: Path | None = None) -> None:
        self.maps = open_maps(store)
        self.record: dict[str, Any] = json.loads(self.maps.attrs["provenance"])
        weights = load_checkpoint(checkpoint)
        if weights.sha256 != self.record["checkpoint_sha256"]:
            raise CheckpointError(
                f"{checkpoint or 'the shipped weights'}: {store} was made with other weights "
                f"({self.record['checkpoint_sha256'][:8]}, not {weights.sha256[:8]}): name them with --checkpoint"
            )
        self.checkpoint, self._weights = checkpoint, weights
        self._model = describe_model(weights, checkpoint, "cpu", self.record["precision"])
        self.galaxy = self._galaxy(cube)
        self.cube = self._cube(cube)

    def _galaxy(self, cube: Path) -> GalaxyConfig:
        """The galaxy's settings; what needs files that only the run had is taken from the store instead."""
        kept = {key: value for key, value in self.record["settings"].items() if key in GalaxyConfig.model_fields}
        kept |= {"cube": str(cube), "mock": None, "masks": {}, "binning": {}, "kinematics": {}}
        return GalaxyConfig.model_validate(kept)

    def _cube(self, path: Path) -> xr.Dataset:
        cube = open_cube(path, redshift=self.galaxy.redshift, rest_window=self._model.window)
        shape, wanted = (cube.sizes["y"], cube.sizes["x"]), (self.maps.sizes["y"], self.maps.sizes["x"])
        if cube.attrs["header_sha256"] != self.record["input"]["header_sha256"] or shape != wanted:
            raise CubeError(
                f"{path}: not the cube that {self.maps.attrs['galaxy']} was mapped from ({self.record['input']['file']}"
                f", {wanted[0]} x {wanted[1]} spaxels; this one: {shape[0]} x {shape[1]}): its headers differ"
            )
        return cube

    @cached_property
    def _settings(self) -> BlockSettings:
        settings = block_settings(self.galaxy, self.cube, self._model, self._weights.decoder)
        masks = WavelengthMasks(
            read_bands(self.maps.attrs["masked_observed"]), read_bands(self.maps.attrs["masked_rest"])
        )
        own = self.record["settings"].get("masks", {})
        if not own.get("spec_masks"):  # the settings have all digits
            masks = wavelength_masks(MasksConfig(observed=own.get("observed", ()), rest=own.get("rest", ())))
        preprocess = replace(settings.preprocess, masks=masks, snr_min=0.0)
        return replace(settings, preprocess=preprocess, residual=False, continuum_subtracted=False, grid=True)

    @cached_property
    def _predictor(self) -> Predictor:
        return shared_predictor(self.checkpoint, self._weights.sha256, "cpu", self.record["precision"])

    @property
    def note(self) -> str:
        """Why fits may differ from the run's in their last digits, or more; empty if there is no reason."""
        made = self.record.get("numeric_version", NUMERIC_VERSION)
        if made != NUMERIC_VERSION:
            return f"made by another version of galprote (its numbers are version {made}, these are {NUMERIC_VERSION})"
        return ""

    def spaxels(self, y: NDArray[np.integer[Any]], x: NDArray[np.integer[Any]]) -> Refits:
        """Fit the spectra of n spaxels.

        Parameters
        ----------
        y, x : (n,) int
            Rows and columns in the cube, from 0. Only the slabs of rows with these are read.

        Raises
        ------
        CubeError
            If there are none, or they are not in the cube.
        """
        rows, columns = as_places(y, x, self._shape)
        flux, variance = read_spectra(self.cube, rows, columns)
        return self._fit(flux, variance, self._velocities(rows, columns))

    def region(self, y: NDArray[np.integer[Any]], x: NDArray[np.integer[Any]]) -> Refits:
        """Fit the mean spectrum of n spaxels, as observed: stars that move differently broaden it.

        It is made as the spectra of bins are: where spaxels lack a channel, the others stand for their light. The noise
        is that of independent spaxels, but of a binned galaxy, whose covariance is known. Slabs of rows are read one by
        one, however many spaxels there are.

        Parameters
        ----------
        y, x : (n,) int
            Rows and columns in the cube, from 0.

        Raises
        ------
        CubeError
            If there are none, or they are not in the cube.
        """
        rows, columns = as_places(y, x, self._shape)
        light = self._map("spaxel_flux", rows, columns)
        covariance = float(self.maps.attrs.get("covariance", 0.0))
        flux, variance, light = mean_of(self.cube, rows, columns, light, covariance)
        velocity = self._velocities(rows, columns)
        if velocity is not None:
            known = np.isfinite(velocity) & np.isfinite(light)
            mean = np.average(velocity[known], weights=light[known].astype(np.float64)) if known.any() else np.nan
            velocity = np.array([mean], dtype=np.float32)
        return self._fit(flux, variance, velocity)

    @property
    def _shape(self) -> tuple[int, int]:
        return self.maps.sizes["y"], self.maps.sizes["x"]

    def _map(self, name: str, rows: Places, columns: Places) -> NDArray[np.float32] | None:
        """Values of a map, if it is there; only the chunks with the spaxels are read."""
        if name not in self.maps:
            return None
        where = {dim: xr.DataArray(values, dims="n") for dim, values in (("y", rows), ("x", columns))}
        values: NDArray[np.float32] = self.maps[name].isel(where).values
        return values

    def _velocities(self, rows: Places, columns: Places) -> NDArray[np.float32] | None:
        return self._map("v_stars", rows, columns)

    def _fit(self, flux: Spectra, variance: Spectra, velocity: NDArray[np.float32] | None) -> Refits:
        prepared = prepare_block(flux, variance, None, self._settings, velocity)
        populations = populations_of(predict_block(prepared, self._settings, self._predictor))
        observed, error = self._rest_frame(flux, variance, velocity)
        bands = ~np.array(self._settings.preprocess.visible)
        masked, replaced = self._left_out(prepared, observed, bands)
        decoder = self._weights.decoder
        return Refits(
            WAVELENGTH, observed, error, populations.model_flux.astype(np.float32), bands, masked, replaced,
            prepared.batch.snr, prepared.batch, populations, decoder.log_ages, decoder.metallicities,
        )  # fmt: skip

    def _rest_frame(
        self, flux: Spectra, variance: Spectra, velocity: NDArray[np.float32] | None
    ) -> tuple[Spectra, Spectra]:
        """Flux and its standard deviation on the model's samples, (n, 948) each."""
        preprocess = self._settings.preprocess
        steps = np.zeros(flux.shape[1]) if velocity is None else np.rint(np.nan_to_num(velocity) / STEP_KMS)
        found = np.empty((2, flux.shape[1], len(WAVELENGTH)), dtype=np.float32)
        for step in np.unique(steps):  # of velocities, as the fit took them
            mine = np.flatnonzero(steps == step)
            moved = (1 + preprocess.redshift) * (1 + int(step) * STEP_KMS / C_KMS) - 1
            own = replace(preprocess, redshift=moved)
            columns, squared = flux[:, mine], variance[:, mine]
            valid = (np.abs(columns) < LARGEST_FLUX) & is_variance(squared)
            rest, noise = rebin_to_rest(columns, squared, valid, own)
            found[0][mine], found[1][mine] = rest, np.sqrt(noise)
        return found[0], found[1]

    def _left_out(self, prepared: PreparedBlock, observed: Spectra, bands: Samples) -> tuple[Samples, Samples]:
        """Samples without data or masked, and those that the line filter replaced, (n, 948) each."""
        used = np.zeros(observed.shape, dtype=bool)
        used[prepared.batch.fitted] = prepared.batch.used
        asked = masked_samples(self._settings.preprocess.masks, self.galaxy.redshift)
        masked = (np.isnan(observed) | asked) & ~bands
        replaced = ~used & ~masked & ~bands & prepared.batch.fitted[:, None]
        return masked, replaced
