"""Camera jobs: taken from two Redis streams, kept like audio jobs, swept up where Redis forgot."""
