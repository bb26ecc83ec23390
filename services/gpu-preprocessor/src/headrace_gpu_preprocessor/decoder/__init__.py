"""The child process that decodes hostile video: no network, no files, little memory.

It imports nothing of the service but this package, so that it starts fast and holds no secret.
"""
