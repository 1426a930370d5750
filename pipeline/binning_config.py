"""The `binning` section of a galaxy: which spaxels are added up before they are fitted."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from galprote.pipeline.section import Section

#: The range of the paper's spectra, Angstrom, and the narrowest part of it in which noise can be told from lines.
FIRST, LAST, NARROWEST = 4750.0, 7100.0, 20.0

#: Methods that make bins of a wanted signal-to-noise ratio.
ADAPTIVE = ("powerbin", "voronoi")


class BinningConfig(Section):
    """Spaxels that are added up to spectra of a higher signal-to-noise ratio. By default each is fitted by itself."""

    method: Literal["none", "powerbin", "voronoi", "square", "file"] = "none"
    """none: spaxels; powerbin (Cappellari 2025): bins of `target_snr`; voronoi (Cappellari & Copin 2003): the same, as
    older maps have them; square: blocks of `size` spaxels; file: the bins of `file`."""
    target_snr: float = Field(default=35.0, gt=0, le=10_000)
    """Signal-to-noise ratio per channel of the cube that the bins of powerbin and voronoi should reach, median in
    `snr_window`."""
    snr_window: tuple[float, float] = (5300.0, 5500.0)
    """Where the signal-to-noise ratio is measured: rest-frame Angstrom, in air."""
    snr_min: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Spaxels whose own signal-to-noise ratio per channel is lower are in no bin (not with `file`)."""
    covariance: Annotated[float, Field(ge=0, le=10)] | Literal["measure"] = "measure"
    """The noise of neighbouring spaxels is correlated: that of a bin of N spaxels is taken to be 1 + a log10(N) times
    what independent spaxels would give. A number: a. measure: from the cube itself, see docs/binning.md."""
    size: int = Field(default=2, ge=1, le=1000)
    """Side of the blocks of `square`, spaxels."""
    file: str | None = Field(default=None, min_length=1)
    """With `file`: a FITS image of bin numbers, `file.fits[EXT]` for an extension; or an nGIST `*_table.fits`. {name}
    stands for the galaxy's name."""
    first_id: int = Field(default=0, ge=0)
    """With `file`: numbers below this one mean no bin (PHANGS: -1; images with a background of zero: put 1)."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.method == "file") != (self.file is not None):
            raise ValueError("method: file needs the key file, and the other methods do not take it")
        low, high = self.snr_window
        if not FIRST <= low < high - NARROWEST <= LAST - NARROWEST:
            raise ValueError(
                f"snr_window = [{low:g}, {high:g}]: expected two rest-frame wavelengths between {FIRST:g} and "
                f"{LAST:g} A, at least {NARROWEST:g} A apart"
            )
        return self

    @property
    def on(self) -> bool:
        """Whether there are bins at all."""
        return self.method != "none"
