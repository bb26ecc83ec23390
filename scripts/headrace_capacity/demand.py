"""From a load to pieces of work a second."""

from typing import Final

from headrace_capacity.load import Load
from headrace_capacity.measurement import Work

#: ANALYSIS_HEARTBEAT_SECONDS.
_HEARTBEAT_SECONDS: Final = 15.0
#: What a job takes besides its analysis: its lane, SQS, two polls of other lanes.
_WAY_SECONDS: Final = 2.0
#: Events that a client sees live besides progress: most come while it is already there.
_OTHER_EVENTS: Final = 5


def rates(load: Load, *, peak: bool) -> dict[Work, float]:
    """Return pieces of work a second, on average or at the peak.

    How many streams are open at a time is Little's law, L = lambda W (Little, A Proof for the
    Queuing Formula L = lambda W, Operations Research 9, 1961): those opened a second times the
    seconds that each stays.
    """
    audio = load.audio_per_second * (load.audio_peak_to_mean if peak else 1)
    clips = load.clips_per_second * (load.camera_peak_to_mean if peak else 1)
    streams = audio * load.streams_per_job
    found = {
        Work.UPLOAD: audio,
        Work.UPLOAD_MIB: audio * load.audio_mib,
        Work.JOB_SQS: audio * load.sqs_share,
        Work.JOB_HTTP: audio * (1 - load.sqs_share),
        Work.PROGRESS: audio * load.reports_per_job,
        Work.HEARTBEAT: audio * load.analysis_seconds / _HEARTBEAT_SECONDS,
        Work.STREAM: streams,
        Work.WATCHED_SECOND: streams * stay_seconds(load),
        Work.STREAM_EVENT: streams * (load.reports_per_job + _OTHER_EVENTS),
        Work.FIRING: clips,
        Work.CAMERA_JOB: clips,
        Work.CAMERA_SECOND: clips * load.clip_seconds,
        # House-keeping has the night for it.
        Work.PURGE: load.audio_per_second,
    }
    return {work: count for work, count in found.items() if count}


def stay_seconds(load: Load) -> float:
    """Return how long an audio job is under way, and its followers with it."""
    return load.analysis_seconds + _WAY_SECONDS
