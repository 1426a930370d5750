"""Symbolic links in the output folder."""

from pathlib import Path

import pytest

from galprote.model.errors import ConfigError
from galprote.pipeline.layout import all_product_files
from galprote.pipeline.links import refuse_links

NAMES = ("N1", "N2")


def test_an_output_folder_that_is_not_there_or_has_no_links_is_taken(tmp_path: Path) -> None:
    refuse_links(tmp_path / "none", NAMES)
    (tmp_path / "N1.zarr").mkdir()
    (tmp_path / "N1_MAPS.fits").write_text("x")
    (tmp_path / "other.fits").symlink_to("/nowhere")
    refuse_links(tmp_path, NAMES)


def test_the_output_folder_may_be_a_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out").symlink_to("scratch")
    refuse_links(tmp_path / "out", NAMES)


def test_an_output_folder_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("scratch")
    with pytest.raises(ConfigError, match=r"output = .*out: a link to scratch, which is not there"):
        refuse_links(tmp_path / "out", NAMES)


@pytest.mark.parametrize("name", [*all_product_files("N2"), "N2.partial"])
@pytest.mark.parametrize("dangling", [False, True])
def test_products_are_not_written_through_links(tmp_path: Path, name: str, dangling: bool) -> None:
    target = tmp_path / "precious"
    if not dangling:
        target.write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(target)
    with pytest.raises(ConfigError) as caught:
        refuse_links(tmp_path / "out", NAMES)
    assert str(tmp_path / "out" / name) in str(caught.value)
    assert str(target) in str(caught.value)


def test_every_link_is_told(tmp_path: Path) -> None:
    for name in ("N1.zarr", "N2_MAPS.fits"):
        (tmp_path / name).symlink_to("elsewhere")
    with pytest.raises(ConfigError) as caught:
        refuse_links(tmp_path, NAMES)
    assert len(str(caught.value).splitlines()) == 2
