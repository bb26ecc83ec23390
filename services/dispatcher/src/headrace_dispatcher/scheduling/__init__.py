"""Schedules: what is to be put on its way at which time, and the one process that does it."""
