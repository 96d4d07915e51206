"""The errors of the testbed, one small tree; each knows the exit status it ends a command with.

Must not know who prints them: the command line turns an error into one message and an exit code.
"""

from __future__ import annotations


class TestbedError(Exception):
    """Something failed; the command ends with status 1."""

    # pytest would take a class called Test… for a test case.
    __test__ = False

    exit_code = 1


class InputError(TestbedError):
    """A bad file, value or usage; status 2.

    ``str()`` gives one line: ``file:line: message (got VALUE; expected WHAT)`` with what is known.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        value: object = None,
        expected: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        place = ""
        if self.file is not None:
            place = f"{self.file}:{self.line}: " if self.line is not None else f"{self.file}: "
        known = []
        if self.value is not None:
            shown = repr(self.value)
            known.append(f"got {shown if len(shown) <= 80 else shown[:77] + '...'}")
        if self.expected is not None:
            known.append(f"expected {self.expected}")
        return place + self.message + (f" ({'; '.join(known)})" if known else "")


class Missed(TestbedError):
    """A target or threshold was missed; status 3."""

    exit_code = 3


class Lacking(TestbedError):
    """The kernel, a program or the rights lack something; status 4.

    `what` is missing, `how_to_get` says what to do about it in plain words.
    """

    exit_code = 4

    def __init__(self, what: str, how_to_get: str | None = None) -> None:
        super().__init__(what if how_to_get is None else f"{what}: {how_to_get}")
        self.what = what
        self.how_to_get = how_to_get
