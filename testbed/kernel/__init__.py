"""Namespaces, links, filters, processes and limits of the kernel; knows no topology."""
