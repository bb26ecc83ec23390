"""The roll-out: how jobs are divided between the transports, watched, and taken back (A9)."""
