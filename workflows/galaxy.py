"""One galaxy's journey: opened, checked, cut into chunks, computed, written, published."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from galprote.model.decoder import Decoder
from galprote.model.errors import ConfigError, CubeError
from galprote.model.line_spread import TemplateResolution
from galprote.pipeline.bin_numbers import read_bin_numbers
from galprote.pipeline.binning import installed
from galprote.pipeline.binning_config import ADAPTIVE
from galprote.pipeline.block import BlockSettings
from galprote.pipeline.config import GalaxyConfig
from galprote.pipeline.fingerprint import fingerprint_of
from galprote.pipeline.graph import ModelReference
from galprote.pipeline.layout import StoreLayout, all_product_files, store_layout
from galprote.pipeline.line_filter import template_allowance
from galprote.pipeline.photometry import Photometry, cube_photometry
from galprote.pipeline.plan import ChunkPlan
from galprote.pipeline.provenance import differences, provenance
from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.noise import METHOD
from galprote.pipeline.readers.shape import cube_shape
from galprote.pipeline.readers.unpack import is_gzip
from galprote.pipeline.resolution import ResolutionMatch, instrument_width, match_resolution
from galprote.pipeline.rest_frame import PreprocessSettings
from galprote.pipeline.spatial_masks import check_mask_files, spatial_mask
from galprote.pipeline.spectral_masks import check_masked_share, wavelength_masks
from galprote.pipeline.store import GalaxyStore
from galprote.pipeline.velocity_map import read_velocities


@dataclass(frozen=True)
class GalaxyJob:
    """A galaxy that may be computed: its input was checked, nothing of it is kept.

    Attributes
    ----------
    galaxy : GalaxyConfig
    cube_path : Path
    plan : ChunkPlan
    store : GalaxyStore
    """

    galaxy: GalaxyConfig
    cube_path: Path
    plan: ChunkPlan
    store: GalaxyStore


@dataclass(frozen=True)
class OpenedGalaxy:
    """What computing a galaxy takes; made when its turn comes.

    Attributes
    ----------
    cube : xarray.Dataset
        Lazy, chunked as planned.
    excluded : (y, x) int32 or None
        Bits of `Status` of the spaxels to leave out.
    settings : BlockSettings
    layout : StoreLayout
    model : ModelReference
    velocity : (y, x) float32 or None
        Of the spaxels relative to the galaxy's redshift, km/s, if a map gives them.
    mask_notes : tuple of str
        What the masks cover, in words.
    resolution_note : str
        What the instrument's line spread function means for the galaxy, in words; empty if nothing.
    """

    cube: xr.Dataset
    excluded: NDArray[np.int32] | None
    settings: BlockSettings
    layout: StoreLayout
    model: ModelReference
    velocity: NDArray[np.float32] | None = None
    mask_notes: tuple[str, ...] = ()
    resolution_note: str = ""


def block_settings(galaxy: GalaxyConfig, cube: xr.Dataset, model: ModelReference, templates: Decoder) -> BlockSettings:
    """Settings of a galaxy's blocks."""
    match = resolution_match(galaxy, cube, model.resolution)
    preprocess = PreprocessSettings(
        wavelength=tuple(float(value) for value in cube["wavelength"].values),
        redshift=galaxy.redshift,
        ebv=galaxy.foreground.ebv,
        law=galaxy.foreground.law,
        r_v=galaxy.foreground.r_v,
        line_filter=galaxy.line_filter,
        snr_min=galaxy.snr_min,
        max_filled=galaxy.max_filled,
        allowance=template_allowance(templates, galaxy.line_filter),
        visible=model.visible,
        masks=wavelength_masks(galaxy.masks),
        broadening=match.broadening,
    )
    wanted = galaxy.products
    return BlockSettings(
        preprocess,
        wanted.residual,
        wanted.continuum_subtracted,
        wanted.grid,
        galaxy.flux_calibration_error,
        galaxy.template_error,
        photometry(galaxy, cube),
        galaxy.kinematics.max_velocity if galaxy.kinematics.method == "measure" else None,
        match.excess_square,
    )


def resolution_match(galaxy: GalaxyConfig, cube: xr.Dataset, templates: TemplateResolution) -> ResolutionMatch:
    """What the instrument's line spread function means for a cube.

    Raises
    ------
    CubeError
        If the instrument is too blunt for the weights.
    """
    wavelength = np.asarray(cube["wavelength"].values)
    told, source = np.asarray(cube["lsf_fwhm"].values), str(cube.attrs["lsf_source"])
    fwhm, source = instrument_width(wavelength, told, source, galaxy.instrument.law)
    try:
        return match_resolution(wavelength, fwhm, galaxy.redshift, templates, source)
    except CubeError as error:
        raise CubeError(f"{cube.attrs['source']}: {error}") from error


def photometry(galaxy: GalaxyConfig, cube: xr.Dataset) -> Photometry:
    """What leads from a cube's flux to mass."""
    return cube_photometry(str(cube.attrs["bunit"]), str(cube.attrs["wcs_header"]), galaxy.pixel_scale_arcsec)


def check_galaxy(
    galaxy: GalaxyConfig,
    cube_path: Path,
    output: Path,
    make_plan: Callable[[GalaxyConfig, tuple[int, int, int], int | None], ChunkPlan],
    model: ModelReference,
    *,
    overwrite: bool,
) -> GalaxyJob | None:
    """Check a galaxy's input, and decide whether to begin, go on or skip.

    A compressed cube is not unpacked for that: its headers are compared when its turn comes.

    Parameters
    ----------
    galaxy : GalaxyConfig
    cube_path : Path
    output : Path
        The survey's output folder.
    make_plan : callable
        Makes the ChunkPlan of (galaxy, shape, rows or None).
    model : ModelReference
    overwrite : bool
        Whether products made with other settings may be replaced.

    Returns
    -------
    GalaxyJob or None
        None if the products exist already, made with the very same input, settings and weights.

    Raises
    ------
    ConfigError
        If a mask cannot be used, or products made with other settings are in the way.
    CubeError, PlanError
        If the cube cannot be used, or does not fit.
    """
    store = GalaxyStore(output, galaxy.name)
    shape, _ = cube_shape(cube_path, galaxy.redshift, model.window)
    check_masked_share(wavelength_masks(galaxy.masks), galaxy.redshift, model.visible, galaxy.name)
    check_files(galaxy, shape[1:], model.window)
    if is_gzip(cube_path):
        check_mask_files(galaxy.masks, shape[1:])
        headers = recorded_headers(store)
    else:
        cube = open_cube(cube_path, redshift=galaxy.redshift, rest_window=model.window)
        masked = spatial_mask(galaxy.masks, str(cube.attrs["wcs_header"]), shape[1:])
        if masked is not None and bool((masked[0] != 0).all()):
            raise ConfigError(
                f"{galaxy.name}: the masks leave no spaxel: are their units, and their spaxels, the cube's?"
            )
        resolution_match(galaxy, cube, model.resolution)
        headers = str(cube.attrs["header_sha256"])
    record = provenance(galaxy, cube_path, headers, model.sha256, model.precision)
    finished, rows = earlier_work(store, record, overwrite=overwrite)
    return None if finished else GalaxyJob(galaxy, cube_path, make_plan(galaxy, shape, rows), store)


def open_galaxy(job: GalaxyJob, model: ModelReference, templates: Decoder) -> OpenedGalaxy:
    """Open a galaxy's cube and describe its products.

    Raises
    ------
    CubeError
        If the cube cannot be used.
    """
    galaxy, store = job.galaxy, job.store
    cube = open_cube(
        job.cube_path, redshift=galaxy.redshift, rest_window=model.window, rows=job.plan.rows, scratch=store.scratch
    )
    masked = spatial_mask(galaxy.masks, str(cube.attrs["wcs_header"]), (cube.sizes["y"], cube.sizes["x"]))
    excluded, notes = masked or (None, ())
    record = provenance(galaxy, job.cube_path, cube.attrs["header_sha256"], model.sha256, model.precision)
    layout = store_layout(
        galaxy,
        cube,
        record,
        model.metallicities,
        model.ages_gyr,
        1 / templates.median_flux.double().numpy(),
        photometry(galaxy, cube).note,
        wavelength_masks(galaxy.masks),
        model.visible,
    )
    velocity = velocities(galaxy, (cube.sizes["y"], cube.sizes["x"]))
    settings = block_settings(galaxy, cube, model, templates)
    note = resolution_match(galaxy, cube, model.resolution).note
    return OpenedGalaxy(cube, excluded, settings, layout, model, velocity, notes, note)


def velocities(galaxy: GalaxyConfig, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """A galaxy's map of velocities, if it has one."""
    if galaxy.kinematics.method != "map":
        return None
    return read_velocities(galaxy.kinematics, galaxy.redshift, shape)


def check_files(galaxy: GalaxyConfig, shape: tuple[int, int], window: tuple[float, float]) -> None:
    """Check what else belongs to a galaxy: the file of bins, the map of velocities, where S/N is measured.

    Raises
    ------
    ConfigError
        If they cannot be used, or a package that the binning needs is missing.
    """
    low, high = galaxy.binning.snr_window
    if galaxy.binning.on and not (window[0] - 5 <= low and high <= window[1] + 5):
        raise ConfigError(
            f"{galaxy.name}: binning.snr_window = [{low:g}, {high:g}] is not within what the weights read, "
            f"{window[0]:.0f}-{window[1]:.0f} A"
        )
    velocities(galaxy, shape)
    if galaxy.binning.file is not None:
        read_bin_numbers(galaxy.binning.file, shape)
    if galaxy.binning.method in ADAPTIVE:
        installed(galaxy.binning.method)


def assumptions(opened: OpenedGalaxy) -> list[str]:
    """What had to be assumed of a cube, what masks cover, and what the products will lack, in words."""
    about, settings, model = opened.cube.attrs, opened.settings, opened.model
    notes = [about["variance_note"], about["axis_assumption"], *about["layout_notes"], opened.resolution_note]
    if about["variance_source"] == METHOD and not about["variance_note"]:
        notes.append("the file has no variances: they are estimated from the spectra")
    if about["bunit_assumed"]:
        notes.append(f"the file has no flux unit: {about['bunit']} assumed")
    if not model.appraised:
        notes.append("the weights give no errors and no trust (docs/training.md: Errors and limits)")
    if model.precision != "float32":
        notes.append(f"the network's largest layers are run in {model.precision} (docs/speed.md)")
    notes += [settings.photometry.note, *opened.mask_notes]
    return [str(note) for note in notes if note]


def recorded_headers(store: GalaxyStore) -> str:
    """Hash of the headers that earlier work was done with; to read those of a compressed cube takes long."""
    earlier = store.finished_provenance() or (store.manifest() or {}).get("provenance", {})
    return str(earlier.get("input", {}).get("header_sha256", ""))


def earlier_work(store: GalaxyStore, record: dict[str, Any], *, overwrite: bool) -> tuple[bool, int | None]:
    """Whether the products are there already, and if not, the rows a chunk of the unfinished run to go on with.

    Raises
    ------
    ConfigError
        If they were made with something else, and may not be replaced.
    """
    done = store.finished_provenance()
    if done is not None and fingerprint_of(done) == record["fingerprint"]:
        if not store.finished_gaps():
            return True, None
        manifest = store.manifest()
        kept = manifest is not None and fingerprint_of(manifest["provenance"]) == record["fingerprint"]
        return False, int(manifest["rows"]) if manifest is not None and kept else None
    if done is not None and not overwrite:
        raise ConfigError(_in_the_way(store.final, done, record))
    manifest = store.manifest()
    if manifest is None:
        foreign = [name for name in all_product_files(store.name) if (store.folder / name).exists()]
        if foreign and not overwrite:
            raise ConfigError(_in_the_way(store.folder / foreign[0], {}, record))
        return False, None
    if fingerprint_of(manifest["provenance"]) == record["fingerprint"]:
        return False, int(manifest["rows"])
    if not overwrite:
        raise ConfigError(_in_the_way(store.partial, manifest["provenance"], record))
    return False, None


def _in_the_way(path: Path, old: dict[str, Any], new: dict[str, Any]) -> str:
    changed = "; ".join(differences(old, new)) or "it was made by another version of galprote"
    why = f"made with something else ({changed})" if old else "not made by this survey"
    return f"{path} exists, {why}; choose another output folder, or add --overwrite"
