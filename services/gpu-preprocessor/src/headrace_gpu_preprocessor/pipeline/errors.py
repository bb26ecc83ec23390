"""Why a clip, though it could be read, gave nothing to go on with."""

from headrace_common.errors import HeadraceError


class LowQualityError(HeadraceError):
    """The clip saw too little of the road, in a jam for instance; later it may see more."""

    code = "low_quality"
    status = 422
    title = "Too little of the road was seen"
    retryable = True
