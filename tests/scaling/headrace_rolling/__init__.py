"""Rolling restarts, upgrades and roll-backs under load; every request and job is accounted for."""
