"""Where results go: Swift, and the set of five artefacts of a job."""

from headrace_gpu_preprocessor.artifacts.sets import ArtifactSets
from headrace_gpu_preprocessor.artifacts.settings import SwiftSettings
from headrace_gpu_preprocessor.artifacts.swift import SwiftStore
from headrace_gpu_preprocessor.artifacts.unfinished import UnfinishedSet
from headrace_gpu_preprocessor.artifacts.whole import WholeSet

__all__ = ["ArtifactSets", "SwiftSettings", "SwiftStore", "UnfinishedSet", "WholeSet"]
