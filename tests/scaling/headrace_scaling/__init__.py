"""More replicas share the work and none does it twice: shown with processes as a cluster's pods."""
