"""Stars: read, left out, moved, and the rough ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from numpy.typing import NDArray

from galprote.model.errors import LibraryError
from galprote.model.grids import WAVELENGTH
from galprote.model.stars import STAR_WAVELENGTH, at_velocity, read_stars, rough_stars

WAVE = 4600.0 + 0.9 * np.arange(3200)


def line(centre: float) -> NDArray[np.float64]:
    return np.asarray(2.0 - np.exp(-0.5 * ((WAVE - centre) / 3.0) ** 2))


def write_star(path: Path, flux: NDArray[np.float64], first: float = WAVE[0], **keys: float) -> None:
    keys = keys or {"CRVAL1": first, "CDELT1": 0.9, "CRPIX1": 1.0}
    fits.PrimaryHDU(flux, fits.Header(keys)).writeto(path)


def test_a_folder_and_an_npz_give_the_same_stars(tmp_path: Path) -> None:
    flux = np.stack([line(5200.0), line(6500.0)])
    folder = tmp_path / "stars"
    folder.mkdir()
    for number, row in enumerate(flux):
        write_star(folder / f"{number}.fits", row)
    np.savez(tmp_path / "stars.npz", wave=WAVE, flux=flux)
    one, two = read_stars(folder), read_stars(tmp_path / "stars.npz")
    assert one.shape == (2, len(STAR_WAVELENGTH))
    torch.testing.assert_close(one, two)
    assert abs(float(STAR_WAVELENGTH[int(one[0].argmin())]) - 5200.0) < 1.0
    torch.testing.assert_close(one.median(dim=1).values, torch.ones(2), atol=1e-3, rtol=0)


def test_every_way_to_write_an_axis_is_the_same(tmp_path: Path) -> None:
    write_star(tmp_path / "1.fits", line(5200.0))
    write_star(tmp_path / "2.fits", line(5200.0), CRVAL1=WAVE[300], CD1_1=0.9, CRPIX1=301.0)
    write_star(tmp_path / "3.fits", line(5200.0)[None], CRVAL1=WAVE[0], CDELT1=0.9)
    stars = read_stars(tmp_path)
    torch.testing.assert_close(stars, stars[:1].expand(3, -1))


def test_few_bad_samples_are_bridged_and_many_are_not(tmp_path: Path) -> None:
    flux = np.stack([line(5200.0)] * 3)
    flux[1, 2000:2010] = np.nan
    flux[2, 1000:1500] = np.nan
    np.savez(tmp_path / "stars.npz", wave=WAVE, flux=flux)
    stars = read_stars(tmp_path / "stars.npz")
    assert len(stars) == 2
    torch.testing.assert_close(stars[0], stars[1], atol=1e-3, rtol=0)


def test_what_does_not_reach_is_left_out(tmp_path: Path) -> None:
    write_star(tmp_path / "a.fits", line(5200.0))
    write_star(tmp_path / "short.fits", line(5200.0)[:500])
    write_star(tmp_path / "late.fits", line(5200.0), first=5000.0)
    write_star(tmp_path / "dark.fits", -line(5200.0))
    assert len(read_stars(tmp_path)) == 1
    (tmp_path / "a.fits").unlink()
    with pytest.raises(LibraryError, match="no spectrum of a star"):
        read_stars(tmp_path)
    with pytest.raises(LibraryError, match="no spectrum of a star"):
        read_stars(tmp_path / "nothing")


def test_a_star_at_rest_is_blueshifted_in_a_galaxys_frame() -> None:
    profile = 1.0 - 0.5 * np.exp(-0.5 * ((STAR_WAVELENGTH - 5900.0) / 4.0) ** 2)
    star = torch.from_numpy(profile.astype(np.float32))[None]
    for redshift in (0.0, 0.004, 0.02):
        moved = at_velocity(star, torch.tensor([[1 + redshift]]))[0].numpy()
        centre = np.average(WAVELENGTH, weights=1 - moved)
        assert abs(centre - 5900.0 / (1 + redshift)) < 0.1
    together = at_velocity(star.expand(2, -1), torch.tensor([[1.0], [1.01]]))
    torch.testing.assert_close(together[1:], at_velocity(star, torch.tensor([[1.01]])), atol=0, rtol=0)


def test_rough_stars_have_a_seed_and_a_temperature() -> None:
    stars = rough_stars(200, 3)
    torch.testing.assert_close(stars, rough_stars(200, 3), atol=0, rtol=0)
    assert not torch.equal(stars, rough_stars(200, 4))
    assert bool((stars > 0).all())
    blue, red = (slice(*np.searchsorted(STAR_WAVELENGTH, part)) for part in ((5000, 5100), (6900, 7000)))
    colour = (stars[:, blue].mean(1) / stars[:, red].mean(1)).numpy()
    hbeta = np.abs(STAR_WAVELENGTH - 4861.33) < 3
    beside = (np.abs(STAR_WAVELENGTH - 4861.33) > 40) & (np.abs(STAR_WAVELENGTH - 4861.33) < 60)
    depth = 1 - (stars[:, hbeta].mean(1) / stars[:, beside].mean(1)).numpy()
    head = (stars[:, slice(*np.searchsorted(STAR_WAVELENGTH, (7060, 7080)))].mean(1)
            / stars[:, slice(*np.searchsorted(STAR_WAVELENGTH, (7030, 7050)))].mean(1)).numpy()  # fmt: skip
    reddest, bluest = np.argsort(colour)[:20], np.argsort(colour)[-60:]
    assert head[reddest].mean() < 0.9 < 0.98 < head[bluest].mean()  # titanium oxide
    assert depth[bluest].max() > 0.2 > depth[reddest].mean() + 0.05  # Balmer lines
