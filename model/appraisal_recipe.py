"""What a network learns its errors and limits from: the section `appraisal` of a training YAML."""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from galprote.model.appraisal import AppraisalConfig
from galprote.model.artefacts import ArtefactConfig
from galprote.model.stream import StreamConfig
from galprote.model.synthesis import NoiseConfig

#: Largest redshift that `galprote.model.stars.STAR_WAVELENGTH` serves.
STAR_REDSHIFT: Final = 0.03

#: What the survey stream is asked for besides itself: stars that are not the templates', correlated and wrong noise.
APPRAISAL_STREAM: Final = StreamConfig(
    paper=0.1,
    artefacts=ArtefactConfig(
        snr=(3.0, 200.0), redshift=(0.0, 0.03), mismatch=(5e-4, 0.01), noise_correlation=0.4, noise_wrong=0.1
    ),
)


class AppraisalRecipe(BaseModel):
    """How the appraisal is taught (`appraisal` in `configs/train/*.yaml`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    network: AppraisalConfig = AppraisalConfig()
    spectra: int = Field(default=880_000, ge=1000)
    """Spectra that are fitted for it."""
    anomalies: float = Field(default=0.4, ge=0.0, le=0.9)
    """Share of them that are no ordinary spectra."""
    known_calibration: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of spectra whose own scatter of the calibration is told; the others are told `default_calibration`."""
    default_calibration: float = Field(default=0.01, ge=0.0, le=0.03)
    """Scatter of the calibration that spectra are told whose own is not known, relative."""
    calibration_spectra: int = Field(default=41_000, ge=100)
    """Further spectra, as `survey` has them, on which the intervals are stretched to hold their share."""
    survey: StreamConfig = StreamConfig(paper=0.0, quiet=0.0)
    """The spectra for which the intervals are to be right; the network is told `default_calibration` of them."""
    epochs: int = Field(default=6, ge=1)
    """How often all spectra are gone through."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Largest learning rate, of AdamW."""
    weight_decay: float = Field(default=0.02, ge=0)
    """Of AdamW."""
    seed: int = Field(default=1, ge=0, lt=1000)
    """Of everything random in it."""
    stars: Path | None = None
    """Library of stars (`galprote.model.stars`); null: rough ones alone."""
    stream: StreamConfig = APPRAISAL_STREAM
    """Ordinary spectra."""
    noise: NoiseConfig = NoiseConfig(flagged=0.5)
    """Of the paper's spectra among them."""

    @model_validator(mode="after")
    def _stars_reach(self) -> "AppraisalRecipe":
        if self.anomalies and self.stream.artefacts.redshift[1] > STAR_REDSHIFT:
            raise ValueError(f"stream.artefacts.redshift: stars are kept for redshifts up to {STAR_REDSHIFT}")
        return self
