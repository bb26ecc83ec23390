"""Measuring what pieces of work cost, on a real local stack."""
