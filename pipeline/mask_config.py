"""What is left out of a galaxy's fit: the `masks` section of a survey, and the files that it names."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import AfterValidator, Field

from galprote.pipeline.section import Section

#: Wavelengths beyond these are no optical ones in Angstrom.
SHORTEST_A: Final = 1000.0
LONGEST_A: Final = 30_000.0


def _a_band(band: tuple[float, float]) -> tuple[float, float]:
    if not SHORTEST_A <= band[0] < band[1] <= LONGEST_A:
        raise ValueError(
            f"[{band[0]:g}, {band[1]:g}]: expected [first, last] in Angstrom (air), ascending, "
            f"within {SHORTEST_A:g} to {LONGEST_A:g}"
        )
    return band


#: First and last wavelength, Angstrom in air.
Band = Annotated[tuple[float, float], AfterValidator(_a_band)]

#: A path; {name} stands for the galaxy's name.
PathText = Annotated[str, Field(min_length=1)]

#: Remarks of an earlier run for which spaxels may be left out.
Remark = Literal[
    "star_like", "agn_like", "wrong_redshift", "damaged", "sky_like", "unlike_training", "poor_fit"
]  # fmt: skip


class StarsConfig(Section):
    """Stars from a catalogue."""

    catalogue: PathText
    """CSV, ECSV, FITS, VOTable or another table that astropy reads, with RA and Dec (ICRS, degrees)."""
    radius_arcsec: float | None = Field(default=None, gt=0, le=600)
    """Radius around stars, for catalogues without a column `radius` (arcsec, if it has no unit)."""


class EarlierRunConfig(Section):
    """Spaxels that an earlier run of galprote flagged, for example those that looked like stars."""

    store: PathText
    """Finished `<name>.zarr` of that run, on the same spaxels."""
    bits: tuple[Remark, ...] = Field(default=("star_like",), min_length=1)
    """Status bits, by name, for which spaxels are left out."""
    grow_arcsec: float = Field(default=0.0, ge=0, le=60)
    """Spaxels so close to a flagged one are left out, too: a star reaches beyond the spaxels that look like it."""
    least_spaxels: int = Field(default=1, ge=1, le=100_000)
    """Groups of fewer flagged spaxels that touch are ignored: one spaxel in a hundred is flagged by chance."""


class MasksConfig(Section):
    """Spaxels and wavelengths to leave out."""

    files: tuple[PathText, ...] = ()
    """FITS images whose non-zero (or NaN) spaxels are left out; `file.fits[EXT]` names an extension."""
    stars: StarsConfig | None = None
    """Circles around stars of a catalogue."""
    regions: tuple[PathText, ...] = ()
    """DS9 region files, on the sky or in pixels."""
    trust: EarlierRunConfig | None = None
    """Spaxels that an earlier run flagged."""
    observed: tuple[Band, ...] = ()
    """Bands in the observed frame, for the sky: [first, last] in Angstrom, air."""
    rest: tuple[Band, ...] = ()
    """Bands in the galaxy's rest frame, for its lines."""
    spec_masks: tuple[PathText, ...] = ()
    """nGIST's specMask files: wavelength, width, name; with `sky` in the name in the observed frame, else at rest."""


class MaskInput(NamedTuple):
    """A file (or store) that a mask is read from: the key that names it, its path as given, and the file."""

    key: str
    path: str
    file: Path


def mask_inputs(masks: MasksConfig) -> Iterator[MaskInput]:
    """Give all that a galaxy's masks are read from."""
    yield from (MaskInput("masks.files", path, mask_file(path)) for path in masks.files)
    if masks.stars is not None:
        yield MaskInput("masks.stars.catalogue", masks.stars.catalogue, Path(masks.stars.catalogue))
    yield from (MaskInput("masks.regions", path, Path(path)) for path in masks.regions)
    if masks.trust is not None:
        yield MaskInput("masks.trust.store", masks.trust.store, Path(masks.trust.store))
    yield from (MaskInput("masks.spec_masks", path, Path(path)) for path in masks.spec_masks)


def mask_file(mask: str) -> Path:
    """File of a mask that is given as `file.fits` or `file.fits[EXT]`; brackets may also be part of its name."""
    return Path(mask) if Path(mask).is_file() or not mask.endswith("]") else Path(mask.rpartition("[")[0])


def missing_masks(masks: MasksConfig) -> list[str]:
    """Say which of the masks' inputs are not there."""
    return [
        f"no such mask: {item.path} ({item.key})"
        for item in mask_inputs(masks)
        if not (item.file.is_dir() if item.key == "masks.trust.store" else item.file.is_file())
    ]


def change_paths(masks: MasksConfig, change: Callable[[str], str]) -> MasksConfig:
    """Give the same masks with all paths changed."""
    update: dict[str, object] = {
        key: tuple(change(path) for path in getattr(masks, key)) for key in ("files", "regions", "spec_masks")
    }
    if masks.stars is not None:
        update["stars"] = masks.stars.model_copy(update={"catalogue": change(masks.stars.catalogue)})
    if masks.trust is not None:
        update["trust"] = masks.trust.model_copy(update={"store": change(masks.trust.store)})
    return masks.model_copy(update=update)
