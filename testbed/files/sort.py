"""Which of the two sorts of files a document is, by the keys at its top.

Must not know more of either; a document that is neither counts as a topology.
"""

from __future__ import annotations

from testbed.files.document import Document


def is_scenario(document: Document) -> bool:
    """Whether it is a scenario, right or wrong: it names a topology, or has variants."""
    return isinstance(document.value.get("topology"), str) or "variants" in document.value


def is_topology(document: Document) -> bool:
    """Whether it is a topology, right or wrong: its nodes stand in it."""
    return isinstance(document.value.get("topology"), dict) and not is_scenario(document)
