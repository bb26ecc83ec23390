"""Looks at cameras: reads their streams, extracts the road without its traffic, finds damage."""
