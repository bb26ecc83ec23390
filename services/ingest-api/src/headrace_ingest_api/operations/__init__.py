"""What operators and clients do with jobs: cancel, retry, and both for many at once."""
