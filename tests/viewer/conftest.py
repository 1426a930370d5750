"""Stores for the tests of the viewer, new ones for each of its modules."""

from pathlib import Path

import pytest

from galprote.workflows.viewer.stored import StoredGalaxy
from tests.viewer_galaxies import write_binned, write_galaxy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def galaxy(folder: Path) -> StoredGalaxy:
    return write_galaxy(folder)


@pytest.fixture(scope="module")
def binned(folder: Path) -> StoredGalaxy:
    return write_binned(folder)
