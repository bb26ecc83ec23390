"""One camera job from its stream entry to its five artefacts."""
