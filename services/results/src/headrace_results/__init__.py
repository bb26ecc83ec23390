"""Takes the answers of analysis servers in, applies each once, and tells clients of it."""
