"""Memory shared with the kernel goes back at once, and views of it stay harmless."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from agent.linux.mapping import Mapping


def _mapped(path: str) -> bool:
    return path in Path("/proc/self/maps").read_text()


def test_views_see_the_mapped_file_and_read_zeros_after_release(tmp_path: Path) -> None:
    target = tmp_path / "tbt-mapped"
    target.write_bytes(bytes(range(256)) * 16)
    fd = os.open(target, os.O_RDWR)
    mapping = Mapping(4096, fd=fd)
    os.close(fd)
    view = mapping.bytes()
    words = mapping.array(np.uint32, 4, 16)
    assert view[5] == 5
    assert words[0] == 0x13121110
    mapping.word(16)[0] = 0xAABBCCDD
    assert words[0] == 0xAABBCCDD
    assert _mapped(str(target))

    mapping.release()
    mapping.release()

    assert not _mapped(str(target))
    assert not view.any()
    view[:] = 1  # harmless: nobody else sees it
    assert target.read_bytes()[16:20] == b"\xdd\xcc\xbb\xaa"


def test_a_refused_mapping_is_an_error() -> None:
    with pytest.raises(OSError, match="mmap"):
        Mapping(4096, fd=10**6)


def test_a_mapping_lasts_as_long_as_somebody_looks(tmp_path: Path) -> None:
    target = tmp_path / "tbt-kept"
    target.write_bytes(bytes(4096))
    fd = os.open(target, os.O_RDWR)
    view = Mapping(4096, fd=fd).bytes()
    os.close(fd)
    assert _mapped(str(target))
    view[0] = 7
    assert target.read_bytes()[0] == 7
    del view
    assert not _mapped(str(target))
