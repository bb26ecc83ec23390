"""Finds damage on the road: detector, tiles, road regions, severity, drawing.

Nothing is imported here: what runs a TorchScript model needs neither the settings nor supervision.
"""
