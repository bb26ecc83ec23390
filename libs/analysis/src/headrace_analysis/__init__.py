"""What an analysis server needs to take Headrace's jobs."""

from headrace_analysis.errors import AnalysisError

__all__ = ["AnalysisError"]
