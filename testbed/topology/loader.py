"""Topology files: found, read, checked and resolved; the one way from a file to a `Topology`.

Must not know the kernel: what this machine can or cannot do is no fault of a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from testbed import shipped
from testbed.errors import InputError
from testbed.files import yamlfile
from testbed.files.document import Document
from testbed.files.sort import is_scenario
from testbed.files.validation import check
from testbed.topology.file import LONGEST_NAME, TESTBED_NAME, UNSUPPORTED, TopologyFile
from testbed.topology.model import Topology
from testbed.topology.resolve import resolve


def load_topology(
    path: str | Path, *, env: Mapping[str, str] | None = None, name: str | None = None
) -> Topology:
    """The topology in that file, on standard input (`-`), or shipped under that bare name.

    `env` (os.environ unless given) replaces `${VAR}` in the file; `name` replaces the testbed's
    name. Raises `InputError` with file, line, value and what was expected.
    """
    if name is not None:
        check_name(name)
    document = yamlfile.read(
        shipped.locate("topologies", path), env=os.environ if env is None else env
    )
    if is_scenario(document):
        raise InputError("this is a scenario: `testbed run FILE`", file=document.file)
    return topology_of(document, name=name)


def topology_of(document: Document, *, name: str | None = None) -> Topology:
    """The topology in a document that was read already."""
    return resolve(check(TopologyFile, document, unsupported=UNSUPPORTED), document, name=name)


def check_name(name: str) -> str:
    """The name of a testbed, if it can be one; `InputError` if not."""
    if len(name) > LONGEST_NAME or not re.fullmatch(TESTBED_NAME, name, re.ASCII):
        raise InputError(
            "this cannot be the name of a testbed",
            value=name,
            expected=f"at most {LONGEST_NAME} letters, digits, '_' and '-', "
            "a letter or digit first",
        )
    return name
