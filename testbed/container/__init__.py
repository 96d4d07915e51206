"""A command of the testbed inside a container of its own: rights, files in, reports out, the end.

Only `engine` knows the Docker SDK. Must not know what a scenario holds or what a report says.
"""
