"""What all parts of a result have in common: frozen, nothing unknown, no NaN."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]


class Model(BaseModel):
    """A part of a result file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
