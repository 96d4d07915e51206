"""What all parts of a result have in common: frozen, nothing unknown, no NaN."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]

FrameSize = Count | Literal["imix"]
"""Bytes of an inner Ethernet frame without checksum, or 60, 590 and 1450 bytes as 7 : 4 : 1."""


def in_words(size: int | str) -> str:
    """A frame size as a report writes it."""
    return "IMIX" if size == "imix" else f"{size} bytes"


class Model(BaseModel):
    """A part of a result file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
