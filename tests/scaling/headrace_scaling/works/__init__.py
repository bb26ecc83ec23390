"""The work of each Deployment."""
