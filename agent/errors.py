"""The errors of the agent, one small tree; each knows the exit status it ends the process with.

Must not know who prints them: the command line turns an error into one line and an exit status.
"""

from __future__ import annotations


class AgentError(Exception):
    """Something failed; the process ends with status 1."""

    exit_code = 1


class ConfigError(AgentError):
    """A value that the agent was given cannot be used; status 2."""

    exit_code = 2


class LackingError(AgentError):
    """The kernel or the rights of the process lack something; status 4."""

    exit_code = 4


class InterfaceGoneError(AgentError):
    """The radio interface was removed while the agent was using it."""
