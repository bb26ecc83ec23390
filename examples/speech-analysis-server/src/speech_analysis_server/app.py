"""The HTTP side: jobs over the legacy transport, health and metrics."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from anyio import to_thread
from fastapi import FastAPI, Request
from pydantic import BaseModel

from headrace_analysis import AnalysisServer, S3ResultStore
from headrace_common.contracts import AnalysisRequest
from headrace_common.storage import s3_client
from headrace_common.web.app import create_app
from headrace_common.web.health import Check
from speech_analysis_server.handler import SpeechAnalysis
from speech_analysis_server.settings import SpeechSettings

SERVICE: Final = "speech-analysis"
_DESCRIPTION: Final = (
    "The reference analysis server: pitch, intensity and pace of speech, compared with a token's "
    "TextGrid and pitch file. Takes jobs from SQS, and here over HTTP."
)


class Accepted(BaseModel):
    """The job waits for a slot; the answer comes over the callback."""

    job_id: str
    status: str = "accepted"


def build(settings: SpeechSettings) -> FastAPI:
    """Make the app; the worker runs for as long as the app does."""
    client = s3_client(settings)
    store = S3ResultStore(client, settings.s3_bucket)
    handler = SpeechAnalysis(settings, client=client, store=store)
    server = AnalysisServer(handler, settings, store=store, waits_for=[handler.s3.breaker])

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        server.start()
        try:
            yield
        finally:
            await to_thread.run_sync(server.stop)
            await to_thread.run_sync(handler.close)

    app = create_app(
        settings,
        service=SERVICE,
        description=_DESCRIPTION,
        alive=[Check("worker", server.check_alive)],
        ready=[
            Check("queue", server.check_ready),
            Check("s3", lambda: client.head_bucket(Bucket=settings.s3_bucket)),
        ],
        lifespan=lifespan,
    )
    _add_analyze(app, server)
    return app


def _add_analyze(app: FastAPI, server: AnalysisServer) -> None:
    schema = AnalysisRequest.model_json_schema()

    @app.post(
        "/analyze",
        status_code=202,
        tags=["analysis"],
        responses={401: {}, 422: {}, 503: {"description": "Full: see Retry-After"}},
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}
        },
    )
    async def analyze(request: Request) -> Accepted:
        """Take a job: the body that SQS would carry (the legacy transport).

        Where WEBHOOK_SECRETS are set it must be signed after Standard Webhooks. The job is kept
        in memory only: if no answer comes, send it again.
        """
        # The signature is over the raw body, so that it is read before it is parsed.
        taken = server.accept_signed(await request.body(), dict(request.headers))
        return Accepted(job_id=taken.job_id)
