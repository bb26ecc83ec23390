"""Keeping messages ours while they are worked on: the visibility heartbeat."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from headrace_analysis import metrics
from headrace_common.sqs import SQS_MAX_BATCH_ENTRIES

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class Lease:
    """Our hold on one message.

    Attributes:
        queue_url: the queue it came from.
        message_id: stays the same over deliveries.
        receipt: of the latest delivery; only that one counts.
        until: monotonic seconds at which the hold ends unless renewed.
        renew_until: monotonic seconds after which it is not renewed any more: the task has
            overrun its limit, and others may take the message.
        on_lost: called once when the message is not ours any more.
    """

    queue_url: str
    message_id: str
    receipt: str
    until: float
    renew_until: float
    on_lost: Callable[[], None]


class LeaseKeeper:
    """Renews every lease each third of the visibility timeout, on a thread of its own."""

    def __init__(self, client: "SQSClient", *, visibility_seconds: int) -> None:
        """Make the keeper.

        Args:
            client: with time-outs well below a third of the visibility timeout.
            visibility_seconds: how long a renewed message stays ours.
        """
        self._client = client
        self._visibility = visibility_seconds
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """End renewing; leases that are left run out."""
        self._stopping.set()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether the heartbeat goes on."""
        return self._thread.is_alive()

    def hold(self, lease: Lease) -> None:
        """Renew this lease from now on."""
        with self._lock:
            self._leases[lease.message_id] = lease

    def release(self, lease: Lease) -> bool:
        """Stop renewing; return whether the message was still ours."""
        with self._lock:
            return self._leases.pop(lease.message_id, None) is not None

    def adopt(self, message_id: str, receipt: str) -> bool:
        """Take over the receipt of a second delivery of a message that we hold.

        Returns:
            Whether we hold it.
        """
        with self._lock:
            lease = self._leases.get(message_id)
            if lease is None:
                return False
            lease.receipt = receipt
            lease.until = time.monotonic() + self._visibility
            return True

    def _run(self) -> None:
        while not self._stopping.wait(self._visibility / 3):
            try:
                self.renew()
            except Exception:
                # The heartbeat outlives every surprise: without it all work is done twice.
                log.exception("analysis.heartbeat_failed")

    def renew(self) -> None:
        """Renew all leases once: one call for up to ten messages of a queue."""
        for queue_url, leases in self._due().items():
            for start in range(0, len(leases), SQS_MAX_BATCH_ENTRIES):
                self._renew_batch(queue_url, leases[start : start + SQS_MAX_BATCH_ENTRIES])
        now = time.monotonic()
        with self._lock:
            expired = [lease for lease in self._leases.values() if lease.until < now]
        for lease in expired:
            self._lose(lease, "expired")

    def _due(self) -> dict[str, list[Lease]]:
        now = time.monotonic()
        due: dict[str, list[Lease]] = defaultdict(list)
        with self._lock:
            for lease in self._leases.values():
                if now < lease.renew_until:
                    due[lease.queue_url].append(lease)
        return due

    def _renew_batch(self, queue_url: str, leases: list[Lease]) -> None:
        asked = time.monotonic()
        receipts = [lease.receipt for lease in leases]
        try:
            answer = self._client.change_message_visibility_batch(
                QueueUrl=queue_url,
                Entries=[
                    {"Id": str(n), "ReceiptHandle": receipt, "VisibilityTimeout": self._visibility}
                    for n, receipt in enumerate(receipts)
                ],
            )
        except (BotoCoreError, ClientError) as error:
            log.warning("analysis.heartbeat_missed", reason=type(error).__name__)
            return
        for entry in answer.get("Successful", []):
            leases[int(entry["Id"])].until = asked + self._visibility
        for failed in answer.get("Failed", []):
            lease, code = leases[int(failed["Id"])], failed.get("Code", "")
            if not failed.get("SenderFault", True):
                log.warning("analysis.heartbeat_missed", reason=code)
            elif lease.receipt == receipts[int(failed["Id"])]:
                self._lose(lease, code)

    def _lose(self, lease: Lease, reason: str) -> None:
        if self.release(lease):
            metrics.LEASES_LOST.inc()
            log.warning("analysis.lease_lost", message_id=lease.message_id, reason=reason)
            lease.on_lost()
