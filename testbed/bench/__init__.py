"""Benchmarks of the node agent itself, beside the least that the kernel allows."""
