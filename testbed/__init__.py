"""Orchestrator: brings OBU/RSU topologies up in network namespaces and measures their nodes."""

from agent import __version__

__all__ = ["__version__"]
