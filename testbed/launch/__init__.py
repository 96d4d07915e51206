"""Starts agents cheaply inside their namespaces and watches them."""
