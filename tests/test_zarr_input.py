"""Zarr stores as input: the same numbers as from FITS, however they are laid out, and clear errors otherwise."""

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from galprote.model.errors import ConfigError, CubeError
from galprote.pipeline.config import find_cube, read_survey
from galprote.pipeline.inspection import inspect_cube
from galprote.pipeline.inspection_text import report_lines
from galprote.pipeline.readers import open_cube
from galprote.pipeline.readers.axis import vacuum_to_air
from galprote.pipeline.readers.shape import cube_shape
from tests import cubes, instruments, surveys
from tests.cubes import bits

Array = Any
DIMS = ("wavelength", "y", "x")


def dataset(**changes: Any) -> xr.Dataset:
    """A store's contents: 48 channels from 5000 A by 1.25 A, 7 x 5 spaxels."""
    flux, variance = cubes.spectra()
    group = xr.Dataset(
        {
            "flux": (DIMS, flux, {"units": cubes.MUSE_BUNIT}),
            "variance": (DIMS, variance),
        },
        coords={"wavelength": ("wavelength", cubes.wavelengths(48), {"units": "Angstrom", "medium": "air"})},
        attrs={"target": "NGC 1"},
    )
    return group.assign(changes) if changes else group


def store(path: Path, group: xr.Dataset, chunks: dict[str, int] | None = None) -> Path:
    """Write a store; `chunks` by dimension."""
    chunks = {"wavelength": 48, "y": 2, "x": 5} | (chunks or {})
    encoding = {
        str(name): {"chunks": tuple(chunks[str(dim)] for dim in variable.dims)}
        for name, variable in group.data_vars.items()
        if set(variable.dims) == set(DIMS)
    }
    group.to_zarr(path, encoding=encoding, consolidated=False)
    return path


def opened(path: Path, **more: Any) -> xr.Dataset:
    return open_cube(path, **({"rest_window": cubes.WINDOW} | more))


def fits_twin(tmp_path: Path) -> xr.Dataset:
    return cubes.opened(cubes.write_muse_cube(tmp_path / "twin.fits", *cubes.spectra()))


def test_a_store_gives_what_the_fits_file_gives(tmp_path: Path) -> None:
    twin, cube = fits_twin(tmp_path), opened(store(tmp_path / "cube.zarr", dataset()))
    for name in ("flux", "variance"):
        assert bits(cube[name]) == bits(twin[name])
        assert cube[name].dims == twin[name].dims
        assert cube[name].attrs == twin[name].attrs
    np.testing.assert_allclose(cube.wavelength, twin.wavelength, rtol=1e-14)
    assert set(cube.attrs) == set(twin.attrs)
    assert (cube.layout, cube.target, cube.variance_source) == ("Zarr", "NGC 1", "variance")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """The same cube with its dimensions in any order."""
    folder = tmp_path_factory.mktemp("stores")
    orders = [DIMS, ("y", "x", "wavelength"), ("x", "wavelength", "y")]
    return {order: store(folder / f"{'-'.join(order)}.zarr", dataset().transpose(*order)) for order in orders}


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(0, 2))
def test_any_blocks_and_any_order_equal_the_whole(stores: dict[tuple[str, ...], Path], rows: int, number: int) -> None:
    cube = opened(list(stores.values())[number], rows=rows)
    flux, variance = cubes.spectra()
    channels = slice(cube.first_channel, cube.first_channel + cube.sizes["wavelength"])
    assert cube.flux.data.chunks[1][0] == min(rows, 7)
    with dask.config.set(scheduler="synchronous"):
        assert bits(cube.flux) == bits(flux[channels])
        assert bits(cube.variance) == bits(variance[channels])


def test_chunked_is_unchunked(tmp_path: Path) -> None:
    small = opened(store(tmp_path / "small.zarr", dataset(), {"wavelength": 10, "y": 3, "x": 2}), rows=2)
    whole = opened(store(tmp_path / "whole.zarr", dataset(), {"wavelength": 48, "y": 7, "x": 5}), rows=7)
    assert bits(small.flux) == bits(whole.flux)
    assert bits(small.variance) == bits(whole.variance)


def test_a_block_reads_its_rows_alone(tmp_path: Path) -> None:
    """Chunks of other rows may be missing, damaged, or on another planet."""
    path = store(tmp_path / "cube.zarr", dataset())
    cube = opened(path, rows=2)
    wanted = cube.flux.values[:, 2:4]
    for chunk in (path / "flux" / "c" / "0").iterdir():
        if chunk.name != "1":
            for file in chunk.rglob("*"):
                if file.is_file():
                    file.write_bytes(b"rubbish")
    assert bits(cube.flux.data.blocks[0, 1, 0].compute()) == bits(wanted)
    with pytest.raises(CubeError, match="'flux' cannot be read"):
        cube.flux.values  # noqa: B018


@pytest.mark.parametrize(("name", "stored"), [("ivar", lambda v: 1 / v), ("sigma", np.sqrt)])
def test_noise_in_other_forms_and_masks(tmp_path: Path, name: str, stored: Any) -> None:
    flux, variance = cubes.spectra()
    mask = np.zeros(flux.shape, np.uint8)
    mask[20, 3, 2] = 4
    noise = stored(variance.astype(np.float64))
    group = dataset(mask=(DIMS, mask), **{name: (DIMS, noise)}).drop_vars("variance")
    cube = opened(store(tmp_path / "cube.zarr", group))
    channels = slice(cube.first_channel, cube.first_channel + cube.sizes["wavelength"])
    wanted = np.where(mask, np.nan, variance)[channels]
    np.testing.assert_allclose(cube.variance, wanted, rtol=1e-6)
    assert np.isnan(cube.flux.values).sum() == 1
    assert (cube.flags_source, cube.variance_source.split()[0]) == ("mask", name)


def test_without_noise_it_is_estimated(tmp_path: Path) -> None:
    cube = opened(store(tmp_path / "cube.zarr", dataset().drop_vars("variance")))
    assert cube.variance_source == "estimated (DER_SNR)"
    assert np.isfinite(cube.variance.values).all()


def test_units_media_and_descending_wavelengths(tmp_path: Path) -> None:
    vacuum = cubes.wavelengths(48) / 10
    coordinate = ("wavelength", vacuum[::-1].copy(), {"units": "nm", "medium": "vacuum"})
    group = dataset(lsf_fwhm=("wavelength", np.linspace(2.0, 3.0, 48))).assign_coords(wavelength=coordinate)
    group["flux"].attrs["units"] = "erg/s/cm2/Angstrom"
    group["flux"] = group["flux"] * 1e-20
    group["variance"] = group["variance"].astype(np.float64) * 1e-40
    group["flux"].attrs["units"] = "erg/s/cm2/Angstrom"
    cube = opened(store(tmp_path / "cube.zarr", group))
    step = slice(cube.first_channel, cube.first_channel - cube.sizes["wavelength"], -1)
    np.testing.assert_allclose(cube.wavelength, vacuum_to_air(10 * vacuum[::-1][step]))
    flux, variance = cubes.spectra()
    np.testing.assert_allclose(cube.flux, flux[step], rtol=1e-6)
    np.testing.assert_allclose(cube.variance, variance[step], rtol=1e-6)
    np.testing.assert_allclose(cube.lsf_fwhm, np.linspace(2.0, 3.0, 48)[step])
    assert cube.lsf_source == "variable lsf_fwhm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.drop_vars("flux"), "needs the variables flux and wavelength"),
        (lambda g: g.drop_vars("wavelength"), "needs the variables flux and wavelength"),
        (lambda g: g.rename(x="right_ascension"), "wavelength, y and x are wanted"),
        (lambda g: g.isel(y=0), "wavelength, y and x are wanted"),
        (lambda g: with_attrs(g, units=""), "no attribute units"),
        (lambda g: with_attrs(g, units="keV"), "no length"),
        (lambda g: with_attrs(g, medium="water"), "air or vacuum is wanted"),
        (lambda g: g.assign(flux=g.flux.assign_attrs(units="Jy")), "BUNIT = 'Jy'"),
        (lambda g: g.assign_attrs(wcs_header="CTYPE1  = 'RA---TAN'"), "celestial WCS"),
        (lambda g: g.isel(wavelength=slice(0, 30)), "does not cover"),
    ],
)
def test_what_a_store_lacks_is_told(tmp_path: Path, change: Any, message: str) -> None:
    change(dataset()).to_zarr(tmp_path / "cube.zarr", consolidated=False)
    with pytest.raises(CubeError, match=message) as caught:
        opened(tmp_path / "cube.zarr")
    assert "cube.zarr: " in str(caught.value)


def with_attrs(group: xr.Dataset, **attrs: str) -> xr.Dataset:
    wavelength = group.wavelength.assign_attrs(attrs)
    return group.assign_coords(wavelength=wavelength)


def test_a_folder_that_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "cube.zarr").mkdir()
    with pytest.raises(CubeError, match="no Zarr group"):
        opened(tmp_path / "cube.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CubeError, match="or a Zarr store"):
        opened(tmp_path / "folder")


def test_the_medium_is_assumed_aloud(tmp_path: Path) -> None:
    group = with_attrs(dataset(), medium="")
    assert "air assumed" in opened(store(tmp_path / "cube.zarr", group)).axis_assumption


def test_inspection_reads_a_store(tmp_path: Path) -> None:
    group = dataset()
    group["flux"][:, 0, 0] = np.nan
    path = store(tmp_path / "cube.zarr", group)
    report = inspect_cube(path)
    assert (report.layout, report.shape, report.keywords) == ("Zarr", (48, 7, 5), {"OBJECT": "NGC 1"})
    assert report.voxels is not None
    assert report.voxels.empty_spaxels == 1
    assert "cannot hold the model's window" in report.problems[0]
    assert ("layout", "Zarr, 48 x 7 x 5 (wavelength x y x x)") in report_lines(report)
    assert cube_shape(path, 0.0, cubes.WINDOW)[1] == 48


# --- in a survey ---


def survey_store(path: Path) -> Path:
    """The cube of `surveys.write_cube` as a store."""
    surveys.write_cube(path.with_suffix(".fits"), (6, 4))
    twin = open_cube(path.with_suffix(".fits"), redshift=surveys.REDSHIFT)
    group = xr.Dataset(
        {"flux": twin.flux.load(), "variance": twin.variance.load()},
        coords={"wavelength": twin.wavelength},
        attrs={"wcs_header": twin.wcs_header, "target": "A"},
    )
    group.to_zarr(path, consolidated=False, encoding={"flux": {"chunks": (100, 4, 3)}})
    return path


def test_a_survey_maps_a_store_like_its_fits_file(tmp_path: Path, checkpoint: Path) -> None:
    survey_store(tmp_path / "A.zarr")
    maps = {}
    for suffix in (".fits", ".zarr"):
        galaxy = {"name": "A", "cube": f"{{name}}{suffix}"}
        folder = tmp_path / suffix[1:]
        survey = surveys.write_survey(tmp_path, [galaxy], checkpoint, output=str(folder))
        (result,) = surveys.run_here(survey)
        assert result.outcome == "done", result
        maps[suffix] = xr.open_zarr(folder / "A.zarr").load()
        (again,) = surveys.run_here(survey)
        assert again.outcome == "skipped"
    for name in maps[".fits"].data_vars:
        np.testing.assert_array_equal(maps[".zarr"][name], maps[".fits"][name], err_msg=str(name))


def test_a_store_that_was_changed_is_another_input(tmp_path: Path, checkpoint: Path) -> None:
    path = survey_store(tmp_path / "A.zarr")
    survey = surveys.write_survey(tmp_path, [{"name": "A", "cube": "A.zarr"}], checkpoint)
    surveys.run_here(survey)
    with xr.open_zarr(path, consolidated=False) as group:
        changed = group.flux.load() * 2
    changed.to_dataset(name="flux").to_zarr(path, mode="a", consolidated=False)
    with pytest.raises(ConfigError, match="header_sha256"):
        surveys.run_here(survey)


def test_patterns_find_stores_and_other_folders_do_not_count(tmp_path: Path, checkpoint: Path) -> None:
    survey_store(tmp_path / "B_v1.zarr")
    (tmp_path / "B_v1_folder").mkdir()
    survey = surveys.write_survey(tmp_path, [{"name": "B", "cube": "B_v1*r"}], checkpoint)
    assert find_cube(read_survey(survey).galaxies[0]).name == "B_v1.zarr"
    survey.write_text(
        yaml.safe_dump(yaml.safe_load(survey.read_text()) | {"galaxies": [{"name": "B", "cube": "B_*er"}]})
    )
    with pytest.raises(ConfigError, match="is a folder; name one FITS file, or a Zarr store"):
        find_cube(read_survey(survey).galaxies[0])


def test_the_layouts_of_surveys_survive_the_way_through_a_store(tmp_path: Path) -> None:
    """What is read from MaNGA's file, written by xarray, is read again as the same."""
    first = open_cube(instruments.manga(tmp_path / "a.fits"), rest_window=instruments.WINDOW)
    group = first.reset_coords("lsf_fwhm").load()
    group.to_zarr(tmp_path / "a.zarr", consolidated=False)
    window = float(first.wavelength[2]), float(first.wavelength[-3])
    again = open_cube(tmp_path / "a.zarr", rest_window=window)
    wanted = first.sel(wavelength=again.wavelength)
    np.testing.assert_array_equal(again.flux, wanted.flux)
    np.testing.assert_array_equal(again.variance, wanted.variance)
    np.testing.assert_array_equal(again.lsf_fwhm, wanted.lsf_fwhm)
    assert again.bunit == first.bunit
