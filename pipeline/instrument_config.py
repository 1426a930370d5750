"""The section `instrument` of a survey: a line spread function in place of what a cube says."""

from pydantic import Field, model_validator

from galprote.model.line_spread import LineSpread
from galprote.pipeline.section import Section


class InstrumentConfig(Section):
    """The line spread function of the instrument, where the cube does not tell it or tells it wrong: one of these."""

    fwhm: float | None = Field(default=None, gt=0, le=50)
    """Full width at half maximum in Angstrom, observed frame, the same at all wavelengths."""
    resolving_power: float | None = Field(default=None, gt=50, le=1e6)
    """Wavelength over FWHM, the same at all wavelengths."""
    polynomial: tuple[float, ...] | None = Field(default=None, min_length=1)
    """Coefficients of 1, x, x**2, ... of the FWHM in Angstrom, x the observed wavelength in Angstrom."""

    @model_validator(mode="after")
    def _one_law(self) -> "InstrumentConfig":
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of fwhm, resolving_power or polynomial, not {' and '.join(given)}")
        return self

    @property
    def law(self) -> LineSpread | None:
        """The line spread function; None if none is given."""
        given = self.model_dump(exclude_none=True)
        return LineSpread.model_validate(given) if given else None
