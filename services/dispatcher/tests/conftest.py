"""The fixtures of the dispatcher's tests."""

from dispatcher_scene import queues, scene, scene_with, settings_for

__all__ = ["queues", "scene", "scene_with", "settings_for"]
