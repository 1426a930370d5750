"""The `line_filter` section of a galaxy."""

from pydantic import BaseModel, ConfigDict, Field, field_validator


class LineFilterConfig(BaseModel):
    """The running median that removes bright lines and sky residuals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: int = Field(default=31, ge=5, le=201)
    """Width of the running median, model samples of 2.48 A; odd."""
    threshold: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    """Replace samples this many robust standard deviations above the running median, and below it near sky lines."""

    @field_validator("window")
    @classmethod
    def _odd(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError("must be odd")
        return window
