"""Training of the light road-damage detector: data, model, training, evaluation and export."""
