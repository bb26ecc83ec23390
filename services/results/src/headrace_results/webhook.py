"""The webhook: who may report, and a durable row before the answer (A10)."""

from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Request, status
from starlette.datastructures import Headers

from headrace_common import webhooks
from headrace_common.contracts import AnalysisReport, ReportReceipt
from headrace_common.db import Database
from headrace_common.errors import (
    HeadraceError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
    UnprocessableError,
)
from headrace_common.settings import WebhookSettings
from headrace_common.telemetry import current_trace
from headrace_common.telemetry.trace import note_job
from headrace_common.web import own_body_limit
from headrace_common.web.problems import responses
from headrace_results import inbox
from headrace_results.actors import ReportQueue
from headrace_results.heartbeats import note_life
from headrace_results.inbox import JobFacts, NewReport, Source, WebhookOfAnotherJobError
from headrace_results.metrics import HEARTBEATS, REPORTS_RECEIVED, REPORTS_REFUSED
from headrace_results.params import OptionalIdQuery, RunQuery
from headrace_results.reports import job_id_of, read_report

log = structlog.get_logger()

MAX_BODY_BYTES: Final = 1024 * 1024
#: An index entry of Postgres holds 2,704 bytes; ids in use have some forty.
_MAX_WEBHOOK_ID_LENGTH: Final = 256
_SIGNATURE_HEADERS: Final = (
    webhooks.ID_HEADER,
    webhooks.TIMESTAMP_HEADER,
    webhooks.SIGNATURE_HEADER,
)


class WebhookReceiver:
    """Authenticates a report, keeps it, and asks for it to be applied."""

    def __init__(self, database: Database, queue: ReportQueue, settings: WebhookSettings) -> None:
        """Keep reports in `database` and send them to `queue`."""
        self._database = database
        self._queue = queue
        self._webhook_secrets = settings.webhook_secret_texts()
        self._token_secrets = settings.callback_token_secret_texts()

    def receive(
        self, body: bytes, headers: Headers, *, job_id: str | None, token: str | None, run: int
    ) -> ReportReceipt:
        """Take a report in.

        Args:
            body: raw bytes, as they were signed.
            headers: of the request.
            job_id: from the query.
            token: from the query.
            run: of the job, from the query.

        Raises:
            UnauthorizedError: neither signature nor token is valid.
            UnprocessableError: not a report.
            NotFoundError: no such job.
            WebhookOfAnotherJobError: its id came in before, for another job.
        """
        try:
            webhook_id = self._authenticate(body, headers, job_id=job_id, token=token)
            new = _new_report(body, headers, query_job_id=job_id, run=run, webhook_id=webhook_id)
            note_job(new.job_id)
            with structlog.contextvars.bound_contextvars(job_id=new.job_id):
                return self._note_life(new) if new.heartbeat else self._keep(new)
        except HeadraceError as error:
            source = Source.WEBHOOK if _is_signed(headers) else Source.CALLBACK
            REPORTS_REFUSED.labels(source=source, reason=error.code).inc()
            raise

    def _authenticate(
        self, body: bytes, headers: Headers, *, job_id: str | None, token: str | None
    ) -> str | None:
        """Return the webhook's id where it is signed, None where it carries the job's token."""
        if _is_signed(headers):
            try:
                return webhooks.verify(body, headers, secrets=self._webhook_secrets)
            except webhooks.InvalidSignatureError as error:
                log.warning("webhook.signature_refused", reason=str(error))
                raise UnauthorizedError("the webhook's signature is not valid") from None
        if (
            job_id
            and token
            and webhooks.callback_token_is_valid(token, job_id, secrets=self._token_secrets)
        ):
            return None
        raise UnauthorizedError(
            "a report needs a Standard Webhooks signature, or the token of its job's callback URL"
        )

    def _keep(self, new: NewReport) -> ReportReceipt:
        with self._database.begin() as session:
            receipt = inbox.keep(session, new)
        REPORTS_RECEIVED.labels(source=new.source, duplicate=str(receipt.duplicate).lower()).inc()
        if not receipt.duplicate:
            self._queue.send(receipt)
        elif not receipt.same_payload:
            log.warning("webhook.id_reused", inbox_id=receipt.inbox_id, kept="the first report")
        log.info("report.received", inbox_id=receipt.inbox_id, delivery=receipt.deliveries)
        return _answer(new, receipt.job, deliveries=receipt.deliveries)

    def _note_life(self, new: NewReport) -> ReportReceipt:
        with self._database.begin() as session:
            facts = note_life(session, new)
        HEARTBEATS.inc()
        return _answer(new, facts, deliveries=1)


async def _raw_body(request: Request) -> bytes:
    """Read the body as it was signed.

    Raises:
        TooLargeError: it is, or is said to be, larger than MAX_BODY_BYTES.
    """
    own_body_limit(request)
    too_large = TooLargeError(f"a report has at most {MAX_BODY_BYTES} bytes")
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > MAX_BODY_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise too_large
    return bytes(body)


def webhook_router(receiver: WebhookReceiver, path: str) -> APIRouter:
    """Make the route that analysis servers report to.

    Args:
        receiver: what takes the report in.
        path: of WEBHOOK_URL.
    """
    router = APIRouter(tags=["webhook"])

    @router.post(
        path,
        status_code=status.HTTP_202_ACCEPTED,
        responses=responses(
            NotFoundError, WebhookOfAnotherJobError, TooLargeError, UnprocessableError
        ),
        openapi_extra=_documented_body(),
    )
    def receive_report(
        request: Request,
        body: Annotated[bytes, Depends(_raw_body)],
        job_id: OptionalIdQuery = None,
        token: OptionalIdQuery = None,
        run: RunQuery = 1,
    ) -> ReportReceipt:
        """Take in what an analysis server says of a job: progress, success or failure.

        Signed after Standard Webhooks, or with the `token` of the job's `callback_url`. It may
        come any number of times and in any order; the answer comes once it is stored, and says
        with `stop` whether to go on working on the job.
        """
        return receiver.receive(body, request.headers, job_id=job_id, token=token, run=run)

    return router


def _answer(new: NewReport, job: JobFacts, *, deliveries: int) -> ReportReceipt:
    return ReportReceipt(
        job_id=new.job_id,
        duplicate=deliveries > 1,
        delivery=deliveries,
        job_status=job.status,
        stop=not job.wants(new.run),
    )


def _is_signed(headers: Headers) -> bool:
    return any(name in headers for name in _SIGNATURE_HEADERS)


def _new_report(
    body: bytes, headers: Headers, *, query_job_id: str | None, run: int, webhook_id: str | None
) -> NewReport:
    received = read_report(body)
    job_id = job_id_of(received.report, query_job_id)
    if webhook_id is not None and len(webhook_id) > _MAX_WEBHOOK_ID_LENGTH:
        raise UnprocessableError(f"webhook-id has more than {_MAX_WEBHOOK_ID_LENGTH} characters")
    return NewReport(
        job_id=job_id,
        dedup_key=inbox.content_key(job_id, received.payload, run=run)
        if webhook_id is None
        else inbox.signed_key(webhook_id),
        source=Source.CALLBACK if webhook_id is None else Source.WEBHOOK,
        payload=received.payload,
        run=run,
        # Without a trace of the sender's, the report belongs to the job's own.
        trace=current_trace() if "traceparent" in headers else {},
        heartbeat=received.report.is_heartbeat,
    )


def _documented_body() -> dict[str, Any]:
    """Describe the body in OpenAPI: it is read raw, because the raw bytes are signed."""
    schema = AnalysisReport.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs")
    properties = schema["properties"]
    properties["status"] = definitions["ReportStatus"]
    properties["error"]["anyOf"][0] = definitions["ReportError"]
    example = {"status": "completed", "result": {"duration_seconds": 2.4}}
    schema["properties"]["result"]["anyOf"][0] = {"type": "object"}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }
