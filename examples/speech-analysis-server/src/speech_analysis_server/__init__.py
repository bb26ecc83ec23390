"""A reference analysis server: pitch, intensity and speaking rate of speech, held against a model."""
