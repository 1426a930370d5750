"""Settings of the whole test suite."""

import os

# Before torch is imported anywhere: small matrices gain nothing from threads, and lose much on a shared machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tables are as wide as in a pipe, whatever the terminal is from which pytest was started.
os.environ.pop("COLUMNS", None)

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every machine, and no clock: a shared runner may pause anywhere. To look for new
# counterexamples, run pytest with --hypothesis-profile=default.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that mean nothing, for surveys: nobody may change the file."""
    from tests import surveys

    path = surveys.write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    path.chmod(0o444)
    return path
