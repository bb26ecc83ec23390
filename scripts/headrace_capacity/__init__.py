"""What an installation needs for a load: a model, and the measurement that it stands on."""
