"""What the checks before a measurement say of a variant: no figure of a broken one is a success.

Must not know how a check is made, nor how it is printed.
"""

from __future__ import annotations

from testbed.results import Check, Result


def failed_checks(result: Result, variant: str) -> tuple[Check, ...]:
    """The checks that the variant did not pass, in the order in which they were made."""
    return tuple(check for check in result.checks if check.variant == variant and not check.passed)


def why_broken(result: Result, variant: str) -> str | None:
    """In words, what the variant failed in; None where it passed or was not checked."""
    failed = failed_checks(result, variant)
    if not failed:
        return None
    kinds = " and ".join(dict.fromkeys(check.kind for check in failed))
    return f"{variant} failed its check of {kinds}"
