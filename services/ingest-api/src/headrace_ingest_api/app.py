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
from headrace_ingest_api.cleaning.housekeeping import HouseKeeping
from headrace_ingest_api.direct.bucket import DirectBucket
from headrace_ingest_api.direct.completion import DirectCompletion
from headrace_ingest_api.direct.routes import direct_router
from headrace_ingest_api.direct.rows import DirectRows
from headrace_ingest_api.direct.uploads import DirectUploads
from headrace_ingest_api.intake import UploadIntake
from headrace_ingest_api.jobs import UploadJobs
from headrace_ingest_api.lingering import LingeringClose
from headrace_ingest_api.operations.routes import operations_router
from headrace_ingest_api.queues import count_messages, queues_router
from headrace_ingest_api.registry import Registry
from headrace_ingest_api.registry_routes import registry_router
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
    house_keeping = HouseKeeping(resources)
    direct_uploads, completion = _direct(resources, intake)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        house_keeping.start()
        yield
        house_keeping.ask_to_stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLEANING_SECONDS):
                await intake.finish()
        await anyio.to_thread.run_sync(completion.close)
        await anyio.to_thread.run_sync(house_keeping.stop)
        await anyio.to_thread.run_sync(resources.close)

    app = create_app(
        settings,
        service="ingest-api",
        description="Takes recordings in, streams them to S3 and queues their analysis; and has "
        "cameras looked at.",
        alive=[Check("chores", house_keeping.check)],
        ready=_checks(resources),
        lifespan=lifespan,
    )
    app.state.authenticator = Authenticator(
        resources.database, legacy_open=settings.legacy_open_endpoints
    )
    for router in (
        uploads_router(intake),
        direct_router(direct_uploads, completion),
        queues_router(resources),
        tokens_router(resources),
        references_router(resources),
        operations_router(resources),
        cameras_router(CameraJobs(resources, intake.keys)),
        registry_router(Registry(resources.database)),
    ):
        app.include_router(router)
    app.add_middleware(LingeringClose)
    return app


def _direct(resources: Resources, intake: UploadIntake) -> tuple[DirectUploads, DirectCompletion]:
    """Make what serves direct uploads."""
    rows = DirectRows(resources.database, resources.store, intake.keys)
    bucket = DirectBucket(
        resources.s3,
        resources.s3_signing,
        url_seconds=resources.settings.direct_upload_url_seconds,
    )
    jobs = UploadJobs(resources, intake.keys)
    uploads = DirectUploads(resources, jobs, intake.keys, rows, bucket)
    return uploads, DirectCompletion(resources, jobs, rows, bucket)


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
