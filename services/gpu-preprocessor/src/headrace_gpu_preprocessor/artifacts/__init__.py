"""Where results go: Swift, and the set of five artefacts of a job."""
