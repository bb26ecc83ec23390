"""Dashboards, recording rules and alerts, as typed Python; `python -m` writes k8s/monitoring."""
