"""The same detection over HTTP, on demand (V8): `/api/v1/damage-detection/*`."""

from headrace_gpu_preprocessor.on_demand.routes import damage_detection_router
from headrace_gpu_preprocessor.on_demand.service import OnDemand
from headrace_gpu_preprocessor.on_demand.settings import OnDemandSettings

__all__ = ["OnDemand", "OnDemandSettings", "damage_detection_router"]
