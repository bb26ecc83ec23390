"""What settings of a camera job promise of each other."""

import pytest
from pydantic import ValidationError

from headrace_common.contracts.cctv import MAX_CLIP_SECONDS
from headrace_gpu_preprocessor.pipeline.settings import MAX_READ_SECONDS, PipelineSettings


def test_a_clips_own_deadline_is_always_nearer_than_a_requests() -> None:
    slowest = PipelineSettings.model_validate({"clip_extra_seconds": 290})
    wall = slowest.read_limits(MAX_CLIP_SECONDS).wall_seconds
    assert wall is not None
    assert wall < MAX_READ_SECONDS == slowest.guard().limits.total_seconds
    with pytest.raises(ValidationError, match="clip_extra_seconds"):
        PipelineSettings.model_validate({"clip_extra_seconds": 291})
