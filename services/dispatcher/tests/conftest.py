"""The fixtures of the dispatcher's tests."""

from dispatcher_scene import queues, scene, scene_with, settings_for
from firing_bench import firing_bench, redis_values

__all__ = ["firing_bench", "queues", "redis_values", "scene", "scene_with", "settings_for"]
