"""The app: routes, health, and what is closed at the stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio.to_thread
from fastapi import FastAPI

from headrace_common.contracts.lanes import Lane
from headrace_common.sqs import lane_queue_urls
from headrace_common.web import Authenticator, Check, create_app
from headrace_ingest_api.camera_jobs import CameraJobs
from headrace_ingest_api.cameras import cameras_router
from headrace_ingest_api.cancel import cancel_router
from headrace_ingest_api.intake import UploadIntake
from headrace_ingest_api.lingering import LingeringClose
from headrace_ingest_api.queues import count_messages, queues_router
from headrace_ingest_api.resources import Resources
from headrace_ingest_api.settings import IngestSettings
from headrace_ingest_api.token_routes import references_router, tokens_router
from headrace_ingest_api.uploads import uploads_router

#: What uploads that a stop cut off get to put everything away; the rest is left to the sweep.
_CLEANING_SECONDS: Final = 10.0


def build_app(settings: IngestSettings) -> FastAPI:
    """Make the app; nothing connects before it is used."""
    resources = Resources.make(settings)
    intake = UploadIntake(resources)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLEANING_SECONDS):
                await intake.finish()
        await anyio.to_thread.run_sync(resources.close)

    app = create_app(
        settings,
        service="ingest-api",
        description="Takes recordings in, streams them to S3 and queues their analysis; and has "
        "cameras looked at.",
        ready=_checks(resources),
        lifespan=lifespan,
    )
    app.state.authenticator = Authenticator(
        resources.database, legacy_open=settings.legacy_open_endpoints
    )
    for router in (
        uploads_router(intake),
        queues_router(resources),
        tokens_router(resources),
        references_router(resources),
        cancel_router(resources.store),
        cameras_router(CameraJobs(resources, intake.keys)),
    ):
        app.include_router(router)
    app.add_middleware(LingeringClose)
    return app


def _checks(resources: Resources) -> list[Check]:
    """Return what readiness asks. Jobs are accepted without the queues, so these may be away."""
    sqs, settings = resources.sqs, resources.settings
    checks = [
        Check("database", resources.database.ping),
        Check("s3", lambda: resources.s3.head_bucket(Bucket=settings.s3_bucket)),
        Check("redis", resources.broker.client.ping, required=False),
    ]
    if sqs is not None:
        normal = lane_queue_urls(settings)[Lane.NORMAL]
        checks.append(Check("sqs", lambda: count_messages(sqs, [normal]), required=False))
    return checks
