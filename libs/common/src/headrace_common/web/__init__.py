"""The HTTP plumbing of every service: app, problems, health, metrics, keys, and serving."""

from headrace_common.web.app import create_app
from headrace_common.web.auth import Authenticator, requires
from headrace_common.web.body_limit import own_body_limit
from headrace_common.web.health import Check
from headrace_common.web.serve import run_service

__all__ = ["Authenticator", "Check", "create_app", "own_body_limit", "requires", "run_service"]
