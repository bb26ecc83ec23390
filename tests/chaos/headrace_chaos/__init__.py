"""Breaks a running stack in every way that it can, and proves that no job was hurt."""
