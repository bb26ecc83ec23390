"""What an analysis server gets to know of a job."""

from datetime import datetime

from headrace_common import webhooks
from headrace_common.contracts.analysis import AnalysisRequest
from headrace_common.db import Job
from headrace_dispatcher.settings import DispatcherSettings


def build_request(job: Job, settings: DispatcherSettings, *, now: datetime) -> AnalysisRequest:
    """Make the request for a job (A5)."""
    secrets = settings.callback_token_secret_texts()
    token = webhooks.callback_token(job.id, secret=secrets[0]) if secrets else None
    url = webhooks.callback_url(settings.webhook_url, job.id, token=token, run=job.run)
    token_id = job.token_id or ""
    return AnalysisRequest(
        job_id=job.id,
        s3_audio_url=job.input["s3_audio_url"],
        token_id=token_id,
        video_id=token_id,
        s3_textgrid_url=job.input.get("s3_textgrid_url"),
        s3_pitch_url=job.input.get("s3_pitch_url"),
        callback_url=url,
        webhook_url=url,
        timestamp=now,
    )
