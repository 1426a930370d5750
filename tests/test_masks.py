"""Spatial masks: nonzero or NaN is excluded, and a mask of another shape is refused."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from galprote.model.errors import ConfigError
from galprote.pipeline.masks import read_spatial_mask

STARS = np.array([[0, 1, 0], [0, 0, 2]])


@pytest.fixture
def mask_file(tmp_path: Path) -> Path:
    """A cube's layout: an empty primary HDU, a cube, then two images."""
    path = tmp_path / "mask.fits"
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(np.zeros((4, 2, 3)), name="CUBE"),
        fits.ImageHDU(STARS.astype(np.uint8), name="STARS"),
        fits.ImageHDU(np.array([[np.nan, 0.0, -0.5], [0.0, 0.0, 0.0]]), name="EDGES"),
    ]
    fits.HDUList(hdus).writeto(path)
    return path


def test_the_first_image_with_two_axes_is_taken(mask_file: Path) -> None:
    excluded = read_spatial_mask(mask_file, (2, 3))
    assert excluded.dtype == bool
    np.testing.assert_array_equal(excluded, STARS != 0)


@pytest.mark.parametrize("extension", ["EDGES", "edges", "3"])
def test_an_extension_by_name_or_number(mask_file: Path, extension: str) -> None:
    excluded = read_spatial_mask(f"{mask_file}[{extension}]", (2, 3))
    np.testing.assert_array_equal(excluded, [[True, False, True], [False, False, False]])


@given(
    npst.arrays(
        st.sampled_from([">f4", ">f8", "u1", ">i2"]),
        npst.array_shapes(min_dims=2, max_dims=2, max_side=5),
    )
)
def test_exactly_the_finite_zeros_are_kept(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("mask") / "mask.fits"
    fits.PrimaryHDU(values).writeto(path)
    np.testing.assert_array_equal(~read_spatial_mask(path, values.shape), values == 0)


def test_brackets_in_a_file_name(tmp_path: Path) -> None:
    path = tmp_path / "stars[1]"
    fits.PrimaryHDU(STARS).writeto(path)
    assert read_spatial_mask(path, (2, 3)).sum() == 2


def test_another_shape_is_refused_with_both_shapes(mask_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"shape 2 x 3 .* the cube has 3 x 2"):
        read_spatial_mask(mask_file, (3, 2))


def test_files_without_a_mask_are_refused(mask_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_spatial_mask(tmp_path / "none.fits", (2, 3))
    with pytest.raises(ConfigError, match=r"no extension 'DUST'; .* 2 STARS"):
        read_spatial_mask(f"{mask_file}[DUST]", (2, 3))
    with pytest.raises(ConfigError, match="'CUBE' is no image with two axes"):
        read_spatial_mask(f"{mask_file}[CUBE]", (2, 3))
    fits.PrimaryHDU(np.zeros((4, 2, 3))).writeto(tmp_path / "cube.fits")
    with pytest.raises(ConfigError, match="no image with two axes"):
        read_spatial_mask(tmp_path / "cube.fits", (2, 3))
    (tmp_path / "text.fits").write_text("no FITS")
    with pytest.raises(ConfigError, match="cannot be read as FITS"):
        read_spatial_mask(tmp_path / "text.fits", (2, 3))
