"""The local stack: real servers from packages as child processes, and `headrace up`.

`control` is what the command line calls, `pytest_plugin` what tests use, and both stand on
`supervisor`, which runs in a process of its own.
"""
