"""For every alert a time at which it fires, and one close by at which it does not.

Series are in promtool's notation, a sample a minute: `0+5x60` goes from 0 to 300 in an hour.
"""

from dataclasses import dataclass
from typing import Final

_HTTP: Final = "headrace_http_request_duration_seconds_count"
_OK: Final = f'{_HTTP}{{job="ingest-api",route="/upload",status="202"}}'
_BROKEN: Final = f'{_HTTP}{{job="ingest-api",route="/upload",status="500"}}'
_PROBE: Final = f'{_HTTP}{{job="ingest-api",route="/health/ready",status="503"}}'
_AWS: Final = "headrace_aws_request_duration_seconds_count"
_SENT: Final = 'headrace_dispatches_total{transport="sqs",lane="high",outcome="taken"}'
_HEARTBEATS: Final = "headrace_analysis_heartbeats_received_total"
_AGE: Final = "headrace_oldest_job_age_seconds"


@dataclass(frozen=True)
class Case:
    """What Prometheus has scraped, and whether an alert fires then.

    Attributes:
        at: minutes after the first sample.
        alerts: how many of that name fire.
        where: labels that those have.
    """

    alert: str
    series: dict[str, str]
    at: int
    alerts: int = 0
    where: str = ""


CASES: Final = (
    # Budget of 0.1 per cent: 2 per cent burn it 20 times too fast, 1 per cent 10 times.
    Case("HeadraceSloBurnsFast", {_OK: "0+980x90", _BROKEN: "0+20x90"}, 80, 1),
    Case("HeadraceSloBurnsFast", {_OK: "0+990x90", _BROKEN: "0+1x90"}, 80),
    Case("HeadraceSloBurnsFast", {_OK: "0+980x90", _PROBE: "0+20x90"}, 80),
    Case("HeadraceSloBurnsFast", {_OK: "0+980x60 59000x30", _BROKEN: "0+20x30 600x60"}, 90),
    Case("HeadraceSloBurnsFast", {_OK: "0 0 1 1x60", _BROKEN: "0 0 1 1x60"}, 20),
    Case("HeadraceSloBurnsSlowly", {_OK: "0+995x400", _BROKEN: "0+5x400"}, 300, 1),
    Case("HeadraceSloBurnsSlowly", {_OK: "0+9995x400", _BROKEN: "0+5x400"}, 300),
    Case(
        "HeadraceQueueOld",
        {'headrace_queue_oldest_age_seconds{queue="high_priority"}': "130+60x20"},
        5,
        1,
    ),
    Case(
        "HeadraceQueueOld",
        {'headrace_queue_oldest_age_seconds{queue="low_priority"}': "130+60x20"},
        5,
    ),
    Case(
        "HeadraceQueueOld",
        {
            'headrace_queue_oldest_age_seconds{queue="low_priority"}': "1900+60x20",
            'headrace_queue_oldest_age_seconds{queue="audio_analysis"}': "1900+60x20",
            'headrace_queue_paused{queue="audio_analysis"}': "1x20",
        },
        5,
        1,
    ),
    Case("HeadraceQueuePaused", {'headrace_queue_paused{queue="q"}': "1x300"}, 250, 1),
    Case("HeadraceQueuePaused", {'headrace_queue_paused{queue="q"}': "1x100 0x10 1x189"}, 250),
    Case("HeadraceJobsStuck", {f'{_AGE}{{status="processing",lane="low"}}': "3601x20"}, 10, 1),
    Case("HeadraceJobsStuck", {f'{_AGE}{{status="queued",lane="low"}}': "3601x20"}, 10),
    Case("HeadraceJobsStuck", {f'{_AGE}{{status="processing",lane="low"}}': "3599x20"}, 10),
    # A client has a day for a direct upload.
    Case("HeadraceJobsStuck", {f'{_AGE}{{status="uploading",lane="low"}}': "7200x20"}, 10),
    Case("HeadraceJobsOverdue", {"headrace_jobs_overdue_seconds": "121x20"}, 5, 1),
    Case("HeadraceJobsOverdue", {"headrace_jobs_overdue_seconds": "119x20"}, 5),
    Case("HeadraceSweepStale", {"headrace_sweep_last_success_timestamp_seconds": "0x30"}, 15, 1),
    Case(
        "HeadraceSweepStale",
        {
            'headrace_sweep_last_success_timestamp_seconds{instance="a"}': "0x30",
            'headrace_sweep_last_success_timestamp_seconds{instance="b"}': "0+60x30",
        },
        15,
    ),
    Case(
        "HeadraceDeadLettersGrow",
        {'headrace_dead_letters_collected_total{source="sqs"}': "0x5 0+1x10 10x60"},
        20,
        1,
    ),
    Case(
        "HeadraceDeadLettersGrow",
        {'headrace_dead_letters_collected_total{source="sqs"}': "0x5 0+1x10 10x60"},
        60,
    ),
    Case(
        "HeadraceDeadLettersUndecided",
        {"headrace_dead_letters_oldest_age_seconds": "259201x30"},
        15,
        1,
    ),
    Case("HeadraceDeadLettersUndecided", {"headrace_dead_letters_oldest_age_seconds": "9x30"}, 15),
    Case(
        "HeadraceNoWebhook",
        {
            _SENT: "0+1x60",
            _HEARTBEATS: "7x60",
            'headrace_reports_received_total{source="webhook",duplicate="false"}': "9x60",
            # Cameras go on.
            'headrace_reports_received_total{source="stream",duplicate="false"}': "0+1x60",
        },
        40,
        1,
    ),
    Case("HeadraceNoWebhook", {_SENT: "0+1x60", _HEARTBEATS: "0+1x60"}, 40),
    Case(
        "HeadraceNoWebhook",
        {
            _SENT: "0+1x60",
            _HEARTBEATS: "7x60",
            'headrace_reports_received_total{source="webhook",duplicate="false"}': "0+1x60",
        },
        40,
    ),
    Case("HeadraceNoWebhook", {_SENT: "9x60", _HEARTBEATS: "7x60"}, 40),
    Case(
        "HeadraceReportsRefused",
        {'headrace_reports_refused_total{source="webhook",reason="unauthorized"}': "0+1x40"},
        25,
        1,
    ),
    Case(
        "HeadraceReportsRefused",
        {'headrace_reports_refused_total{source="webhook",reason="unauthorized"}': "0x9 5x40"},
        25,
    ),
    Case(
        "HeadraceReportsUnapplied", {'headrace_reports_unapplied{state="poisoned"}': "1x40"}, 12, 1
    ),
    Case("HeadraceReportsUnapplied", {'headrace_reports_unapplied{state="waiting"}': "499x40"}, 12),
    Case("HeadraceSseHubAway", {'headrace_sse_hub_connected{instance="a"}': "0x20"}, 6, 1),
    Case("HeadraceSseHubAway", {'headrace_sse_hub_connected{instance="a"}': "0 0 1 0x20"}, 6),
    Case(
        "HeadraceSchedulerWithoutLeader",
        {
            'headrace_scheduler_leader{instance="a"}': "0x20",
            'headrace_scheduler_leader{instance="b"}': "1x5 0x15",
        },
        8,
        1,
    ),
    Case(
        "HeadraceSchedulerWithoutLeader",
        {'headrace_scheduler_leader{instance="a"}': "0x20", "headrace_scheduler_leader": "1x20"},
        8,
    ),
    Case(
        "HeadraceSchedulerWithoutLeader",
        {"headrace_scheduler_leader": "1x20", "headrace_scheduler_heartbeat_age_seconds": "31x20"},
        8,
        1,
    ),
    Case("HeadraceSchedulerWithoutLeader", {'up{job="scheduler"}': "0x20"}, 8, 1),
    Case("HeadraceSchedulerFlaps", {"headrace_scheduler_epoch": "0+1x40"}, 20, 1),
    Case("HeadraceSchedulerFlaps", {"headrace_scheduler_epoch": "1x10 2x40"}, 20),
    Case("HeadraceSchedulerFlaps", {"headrace_scheduler_epoch": "77x10 0 78x40"}, 20),
    Case("HeadraceFiringsPending", {"headrace_firings_pending_oldest_seconds": "301x20"}, 4, 1),
    Case("HeadraceFiringsPending", {"headrace_firings_pending_oldest_seconds": "299x20"}, 4),
    Case("HeadraceSchedulesBroken", {"headrace_schedules_broken_total": "0x5 1x20"}, 9, 1),
    Case("HeadraceSchedulesBroken", {"headrace_schedules_broken_total": "1x90"}, 80),
    Case(
        "HeadraceGpuStarved",
        {
            "headrace_preprocessor_stream_lag": "3x20",
            "headrace_preprocessor_slots_busy": "0x20",
            "headrace_preprocessor_paused": "0x20",
        },
        7,
        1,
    ),
    Case(
        "HeadraceGpuStarved",
        {
            "headrace_preprocessor_stream_lag": "3x20",
            'headrace_preprocessor_slots_busy{instance="a"}': "0x20",
            'headrace_preprocessor_slots_busy{instance="b"}': "1x20",
            "headrace_preprocessor_paused": "0x20",
        },
        7,
    ),
    Case(
        "HeadraceGpuStarved",
        {
            "headrace_preprocessor_stream_lag": "3x20",
            "headrace_preprocessor_slots_busy": "0x20",
            "headrace_preprocessor_paused": "1x20",
        },
        7,
    ),
    Case(
        "HeadraceGpuStarved",
        {'headrace_queue_jobs{queue="stream:preprocess",state="waiting"}': "2x20"},
        7,
        1,
    ),
    Case(
        "HeadraceGpuStarved",
        {
            'headrace_queue_jobs{queue="stream:preprocess",state="waiting"}': "2x20",
            'headrace_queue_jobs{queue="low_priority",state="waiting"}': "2x20",
            "headrace_preprocessor_slots": "1x20",
        },
        7,
    ),
    Case(
        "HeadraceGpuMemoryShort",
        {'headrace_preprocessor_memory_holding{instance="a"}': "1x40"},
        20,
        1,
    ),
    Case(
        "HeadraceGpuMemoryShort",
        {'headrace_preprocessor_memory_holding{instance="a"}': "1x10 0 1x40"},
        20,
    ),
    Case(
        "HeadraceStreamPendingOld",
        {"headrace_preprocessor_oldest_pending_age_seconds": "3601x20"},
        7,
        1,
    ),
    Case(
        "HeadraceStreamPendingOld", {"headrace_preprocessor_oldest_pending_age_seconds": "60x20"}, 7
    ),
    # Whatever is taken from a long backlog is old, and has only just been taken.
    Case(
        "HeadraceStreamPendingOld",
        {
            "headrace_preprocessor_oldest_pending_age_seconds": "7300x20",
            'headrace_queue_oldest_age_seconds{queue="stream:preprocess"}': "7200x20",
        },
        7,
    ),
    Case(
        "HeadraceStreamPendingOld",
        {
            "headrace_preprocessor_oldest_pending_age_seconds": "7300x20",
            'headrace_queue_oldest_age_seconds{queue="stream:preprocess"}': "600x20",
            'headrace_queue_oldest_age_seconds{queue="low_priority"}': "7200x20",
        },
        7,
        1,
    ),
    Case("HeadraceTargetDown", {'up{job="results",instance="a"}': "0x20"}, 5, 1),
    Case("HeadraceTargetDown", {'up{job="somebody-elses",instance="a"}': "0x20"}, 5),
    Case(
        "HeadraceServiceGone",
        {
            'up{job="results",instance="a"}': "0x20",
            'up{job="dispatcher",instance="b"}': "1x20",
            'up{job="ingest-api",instance="c"}': "1x20",
            'up{job="ingest-api",instance="d"}': "0x20",
        },
        5,
        1,
        'job="results"',
    ),
    Case(
        "HeadraceServiceGone",
        {
            'up{job="results",instance="a"}': "1x20",
            'up{job="dispatcher",instance="b"}': "1x20",
            'up{job="ingest-api",instance="c"}': "1x20",
        },
        5,
    ),
    Case(
        "HeadraceCircuitOpen",
        {'headrace_circuit_open{job="dispatcher",dependency="sqs",instance="a"}': "1x20"},
        4,
        1,
    ),
    # A call that tries a server which hangs takes half of the time.
    Case(
        "HeadraceCircuitOpen",
        {'headrace_circuit_open{job="dispatcher",dependency="sqs"}': "0 1 0.5 0.5 1 0.5 1 0.5"},
        5,
        1,
    ),
    # It stays for two minutes, so that a call that tries does not end it.
    Case(
        "HeadraceCircuitOpen",
        {'headrace_circuit_open{job="dispatcher",dependency="sqs"}': "1x4 0.5 1 0x20"},
        7,
        1,
    ),
    Case(
        "HeadraceCircuitOpen",
        {'headrace_circuit_open{job="dispatcher",dependency="sqs"}': "1x4 0x20"},
        9,
    ),
    Case(
        "HeadraceAwsErrors",
        {
            f'{_AWS}{{job="results",api="s3",operation="GetObject",outcome="ok"}}': "0+90x20",
            f'{_AWS}{{job="results",api="s3",operation="PutObject",outcome="unreachable"}}': (
                "0+10x20"
            ),
        },
        10,
        1,
    ),
    Case(
        "HeadraceAwsErrors",
        {
            f'{_AWS}{{job="results",api="s3",operation="GetObject",outcome="ok"}}': "0+90x20",
            f'{_AWS}{{job="results",api="s3",operation="GetObject",outcome="client_error"}}': (
                "0+10x20"
            ),
        },
        10,
    ),
    Case(
        "HeadraceMessagesGivenUp",
        {'headrace_messages_given_up_total{actor="job.dispatch.low"}': "0x5 1x30"},
        8,
        1,
    ),
    Case(
        "HeadraceMessagesGivenUp",
        {'headrace_messages_given_up_total{actor="job.dispatch.low"}': "0x5 1x30"},
        30,
    ),
    Case("HeadraceRolledBack", {'headrace_rollbacks_total{side="sqs",by="guard"}': "0 1x20"}, 5, 1),
    Case("HeadraceRolledBack", {'headrace_rollbacks_total{side="sqs",by="operator"}': "0 1x20"}, 5),
    Case(
        "HeadraceRolloutsDiffer",
        {
            'headrace_rollout_version{instance="a"}': "3x20",
            'headrace_rollout_version{instance="b"}': "4x20",
        },
        5,
        1,
    ),
    Case(
        "HeadraceRolloutsDiffer",
        {
            'headrace_rollout_version{instance="a"}': "3x2 4x20",
            'headrace_rollout_version{instance="b"}': "4x20",
        },
        5,
    ),
    Case("HeadraceStorageUnknown", {"headrace_storage_unknown": "2x90"}, 70, 1),
    Case("HeadraceStorageUnknown", {"headrace_storage_unknown": "0x90"}, 70),
)
