"""What Headrace's services share: contracts, job model, storage, telemetry and web plumbing."""
