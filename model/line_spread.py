"""Line spread functions: how wide an instrument draws a line, at every wavelength."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from galprote.model.errors import CheckpointError

#: Of a Gaussian: 2 sqrt(2 ln 2).
FWHM_PER_SIGMA: Final = 2.355


class LineSpread(BaseModel):
    """Full width at half maximum of a Gaussian line spread function, by one of three laws."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fwhm: float | None = Field(default=None, gt=0)
    """The same everywhere, Angstrom."""
    resolving_power: float | None = Field(default=None, gt=0)
    """Wavelength over FWHM, the same everywhere."""
    polynomial: tuple[float, ...] | None = Field(default=None, min_length=1)
    """Coefficients of 1, x, x**2, ... of the FWHM in Angstrom, x the wavelength in Angstrom."""

    @model_validator(mode="after")
    def _one_law(self) -> "LineSpread":
        given = [name for name in ("fwhm", "resolving_power", "polynomial") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of fwhm, resolving_power or polynomial; found {given or 'none of them'}")
        return self

    def fwhm_at(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """FWHM in Angstrom at wavelengths in Angstrom."""
        if self.polynomial is not None:
            width: NDArray[np.float64] = np.polynomial.polynomial.polyval(wavelength, np.array(self.polynomial))
            return width
        if self.resolving_power is not None:
            return wavelength / self.resolving_power
        return np.full_like(wavelength, self.fwhm)


#: MUSE's (the paper's equation 1; Bacon et al. 2017, equation 8).
MUSE: Final = LineSpread(polynomial=(6.040, -9.187e-4, 5.866e-8))


class TemplateResolution(BaseModel):
    """How sharp the templates of a checkpoint are: what its network takes for no dispersion at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    line_spread: LineSpread = MUSE
    """What the library was brought to, at rest-frame wavelengths."""
    library_fwhm: float = Field(default=0.0, ge=0)
    """The library's own FWHM, Angstrom: no template is sharper."""

    @classmethod
    def of_metadata(cls, metadata: dict[str, Any]) -> "TemplateResolution":
        """Read it from a checkpoint's metadata; MUSE's line spread function if they are silent.

        Raises
        ------
        CheckpointError
            If they make no sense.
        """
        try:
            config = metadata.get("training", {}).get("config", {})
            known = {"line_spread": config.get("line_spread"), "library_fwhm": config.get("library", {}).get("fwhm")}
            return cls.model_validate({key: value for key, value in known.items() if value is not None})
        except (AttributeError, ValidationError) as error:
            raise CheckpointError(f"the checkpoint's training configuration makes no sense: {error}") from error

    def fwhm_at(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """FWHM in Angstrom at rest-frame wavelengths in Angstrom."""
        return np.maximum(self.line_spread.fwhm_at(wavelength), self.library_fwhm)


#: A checkpoint's that does not say.
MUSE_TEMPLATES: Final = TemplateResolution()
