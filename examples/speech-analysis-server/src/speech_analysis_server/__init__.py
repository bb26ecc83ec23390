"""A reference analysis server: pitch, intensity and pace of speech, held against a model."""
