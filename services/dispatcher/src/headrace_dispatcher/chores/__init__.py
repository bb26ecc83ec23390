"""House-keeping that the dispatcher performs, told by the built-in schedules."""
