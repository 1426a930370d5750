"""Products of fitted spectra on the image of all, and memory that is kept meanwhile."""

import subprocess
import sys

import numpy as np
import pytest

from galprote.pipeline.painting import paint, paint_difference, paint_residual


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_painted_is_what_stands_in_the_columns(share: float) -> None:
    random = np.random.default_rng(5)
    fitted = random.random(70) < share
    columns, size = np.flatnonzero(fitted), len(fitted)
    values = random.normal(size=(40, len(columns))).astype(np.float32)
    image = paint(values, columns, size)
    np.testing.assert_array_equal(image[:, fitted], values)
    assert np.isnan(image[:, ~fitted]).all()
    scale = random.random(len(columns)).astype(np.float32)
    residual = paint_residual(columns, size, values.T, 2 * values.T, scale)
    np.testing.assert_allclose(residual, image - 2 * image * paint(scale, columns, size), atol=1e-6)


def test_differences_lack_what_has_no_flux_and_errors_what_has_no_variance() -> None:
    random = np.random.default_rng(6)
    flux, variance, continuum, error = random.random((4, 50, 9)).astype(np.float32)
    flux[3, 1], flux[4, 2] = np.nan, np.inf
    variance[5, 3], variance[6, 4] = 0.0, np.nan
    difference, noise = paint_difference(np.arange(9) + 2, 12, flux, variance, continuum, error)
    good = np.ones((50, 9), dtype=bool)
    good[3, 1] = good[4, 2] = False
    np.testing.assert_array_equal(np.isfinite(difference[:, 2:11]), good)
    np.testing.assert_allclose(difference[:, 2:11][good], (flux - continuum)[good])
    good[5, 3] = good[6, 4] = False
    np.testing.assert_array_equal(np.isfinite(noise[:, 2:11]), good)
    np.testing.assert_allclose(noise[:, 2:11][good], np.sqrt(variance + error**2)[good], rtol=1e-6)
    assert np.isnan(difference[:, [0, 1, 11]]).all()
    assert np.isnan(noise[:, [0, 1, 11]]).all()


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_intermediate_arrays_come_from_memory_that_is_kept() -> None:
    """In a process as Dask starts workers, a mebibyte costs 256 page faults each time; afterwards hardly any."""
    program = """
import resource
import numpy as np
from galprote.pipeline.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.ones(2**20, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
keep_freed_memory()
print(before, faults())
"""
    environment = {"MALLOC_TRIM_THRESHOLD_": "65536", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 50 * 200, "not as Dask's workers are"
    assert after < before / 10
