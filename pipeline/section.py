"""What all sections of a survey's YAML have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A mapping in the YAML: unknown keys are errors, and nothing changes after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_truth(cls, data: Any) -> Any:
        """YAML reads yes, no, on and off as true and false, which pydantic takes for 1 and 0."""
        for name, value in data.items() if isinstance(data, dict) else ():
            field = cls.model_fields.get(name)
            if isinstance(value, bool) and field is not None and field.annotation is not bool:
                found = str(value).lower()
                raise ValueError(f"{name} = {found}: no truth value is wanted (YAML reads yes, no, on, off as one)")
        return data
