"""The alerts that are no objective's: each a state from which jobs suffer, now or soon.

Figures from the database, Redis or SQS are the same on every replica, so that `max` is taken.
"""

from typing import Final

from headrace_monitoring.rules import Alert, Group, Severity

_PAGE: Final = Severity.PAGE
_TICKET: Final = Severity.TICKET

JOBS: Final = Group(
    "headrace-jobs",
    [
        Alert(
            name="HeadraceQueueOld",
            expr='(max by (queue) (headrace_queue_oldest_age_seconds{queue="high_priority"}) > 120'
            " or max by (queue) (headrace_queue_oldest_age_seconds) > 1800)"
            " unless on (queue) (max by (queue) (headrace_queue_paused) == 1)",
            lasts="2m",
            severity=_PAGE,
            board="overview",
            summary="{{ $labels.queue }}: a job has waited for {{ $value | humanizeDuration }}",
        ),
        Alert(
            name="HeadraceQueuePaused",
            expr="max by (queue) (headrace_queue_paused) == 1",
            lasts="4h",
            severity=_TICKET,
            board="dispatcher",
            summary="{{ $labels.queue }} has been paused for four hours",
        ),
        Alert(
            name="HeadraceJobsStuck",
            # Not `uploading`: whoever uploads directly to S3 has a day for it.
            expr="max by (status, lane) (headrace_oldest_job_age_seconds"
            '{status=~"queuing|processing|queued_for_analysis"}) > 3600',
            lasts="5m",
            severity=_PAGE,
            board="jobs",
            summary="{{ $labels.lane }}: a job has been {{ $labels.status }} for "
            "{{ $value | humanizeDuration }}",
        ),
        Alert(
            name="HeadraceJobsOverdue",
            expr="max(headrace_jobs_overdue_seconds) > 120",
            lasts="2m",
            severity=_PAGE,
            board="jobs",
            summary="A job should have been queued {{ $value | humanizeDuration }} ago",
        ),
        Alert(
            name="HeadraceSweepStale",
            expr="time() - max(headrace_sweep_last_success_timestamp_seconds) > 600",
            lasts="2m",
            severity=_PAGE,
            board="dispatcher",
            summary="Nobody has swept for {{ $value | humanizeDuration }}: lost jobs stay lost",
        ),
        Alert(
            name="HeadraceDeadLettersGrow",
            expr="sum by (source) (increase(headrace_dead_letters_collected_total[30m])) > 5",
            lasts="1m",
            severity=_PAGE,
            board="dispatcher",
            summary="{{ $labels.source }}: {{ $value | humanize }} dead letters in half an hour",
        ),
        Alert(
            name="HeadraceDeadLettersUndecided",
            expr="max(headrace_dead_letters_oldest_age_seconds) > 259200",
            lasts="10m",
            severity=_TICKET,
            board="dispatcher",
            summary="Nobody has decided about a dead letter for {{ $value | humanizeDuration }}",
        ),
    ],
)

REPORTS: Final = Group(
    "headrace-reports",
    [
        Alert(
            name="HeadraceNoWebhook",
            expr='sum(increase(headrace_dispatches_total{outcome="taken"}[30m])) > 5'
            # Not those of cameras: they come from a service of ours.
            ' and (sum(increase(headrace_reports_received_total{source!="stream"}[30m]))'
            " or vector(0)) == 0"
            " and sum(increase(headrace_analysis_heartbeats_received_total[30m])) == 0",
            lasts="5m",
            severity=_PAGE,
            board="speech-analysis-server",
            summary="Jobs go out, and for half an hour no analysis server has said anything",
        ),
        Alert(
            name="HeadraceReportsRefused",
            expr="sum by (source, reason) (increase(headrace_reports_refused_total[15m])) > 10",
            lasts="5m",
            severity=_TICKET,
            board="results",
            summary="Reports over {{ $labels.source }} are refused: {{ $labels.reason }}",
        ),
        Alert(
            name="HeadraceReportsUnapplied",
            expr='max(headrace_reports_unapplied{state="waiting"}) > 500'
            ' or max(headrace_reports_unapplied{state="poisoned"}) > 0',
            lasts="10m",
            severity=_TICKET,
            board="results",
            summary="{{ $value }} reports are in the inbox and change no job",
        ),
        Alert(
            name="HeadraceSseHubAway",
            expr="min by (job, instance) (headrace_sse_hub_connected) == 0",
            lasts="5m",
            severity=_TICKET,
            board="results",
            summary="{{ $labels.instance }} hears no events: its streams live on polling",
        ),
    ],
)

SCHEDULER: Final = Group(
    "headrace-scheduler",
    [
        Alert(
            name="HeadraceSchedulerWithoutLeader",
            expr="max(headrace_scheduler_heartbeat_age_seconds) > 30"
            " or (sum(headrace_scheduler_leader) or vector(0)) == 0",
            lasts="1m",
            severity=_PAGE,
            board="scheduler",
            summary="Nobody drives the schedules: nothing fires",
        ),
        Alert(
            name="HeadraceSchedulerFlaps",
            # A process that begins says 0 until it has looked.
            expr="max(headrace_scheduler_epoch)"
            " - min(min_over_time((headrace_scheduler_epoch > 0)[15m:15s])) > 4",
            lasts="1m",
            severity=_TICKET,
            board="scheduler",
            summary="{{ $value | humanize }} leaders in a quarter of an hour",
        ),
        Alert(
            name="HeadraceFiringsPending",
            expr="max(headrace_firings_pending_oldest_seconds) > 300",
            lasts="2m",
            severity=_PAGE,
            board="scheduler",
            summary="A firing has waited for its message for {{ $value | humanizeDuration }}",
        ),
        Alert(
            name="HeadraceSchedulesBroken",
            expr="sum(increase(headrace_schedules_broken_total[1h])) > 0",
            lasts="0m",
            severity=_TICKET,
            board="scheduler",
            summary="A schedule was stopped, because its row makes no sense",
        ),
    ],
)

CAMERAS: Final = Group(
    "headrace-cameras",
    [
        Alert(
            name="HeadraceGpuStarved",
            expr="(max(headrace_preprocessor_stream_lag) > 0"
            " and sum(headrace_preprocessor_slots_busy) == 0"
            " and max(headrace_preprocessor_paused) == 0)"
            # Or there is no worker at all, which would say so.
            ' or (max(headrace_queue_jobs{state="waiting",'
            'queue!~"high_priority|audio_analysis|low_priority"}) > 0'
            " unless on () (sum(headrace_preprocessor_slots) > 0))",
            lasts="5m",
            severity=_PAGE,
            board="gpu-preprocessor",
            summary="{{ $value | humanize }} camera jobs wait, and no slot works on one",
        ),
        Alert(
            name="HeadraceGpuMemoryShort",
            expr="max by (instance) (headrace_preprocessor_memory_holding) == 1",
            lasts="15m",
            severity=_TICKET,
            board="gpu-preprocessor",
            summary="{{ $labels.instance }}: jobs have waited for memory for a quarter of an hour",
        ),
        Alert(
            name="HeadraceStreamPendingOld",
            # An entry's age counts from when it was put on the stream: what is taken from a long
            # backlog is old at once, and that backlog is HeadraceQueueOld's.
            expr="max(headrace_preprocessor_oldest_pending_age_seconds) > 3600"
            " unless on () (max(headrace_queue_oldest_age_seconds"
            '{queue!~"high_priority|audio_analysis|low_priority"}) > 1800)',
            lasts="5m",
            severity=_PAGE,
            board="gpu-preprocessor",
            summary="An entry of the job stream has been worked on for "
            "{{ $value | humanizeDuration }}",
        ),
    ],
)

PARTS: Final = Group(
    "headrace-parts",
    [
        Alert(
            name="HeadraceTargetDown",
            expr='up{job=~"ingest-api|dispatcher|scheduler|results|gpu-preprocessor'
            '|speech-analysis-server"} == 0',
            lasts="3m",
            severity=_TICKET,
            board="{{ $labels.job }}",
            summary="{{ $labels.job }} at {{ $labels.instance }} does not answer",
        ),
        Alert(
            name="HeadraceServiceGone",
            expr=" or ".join(
                # `absent` of a comparison knows no labels.
                f'label_replace(absent(up{{job="{service}"}} == 1), "job", "{service}", "", "")'
                for service in ("ingest-api", "dispatcher", "results")
            ),
            lasts="2m",
            severity=_PAGE,
            board="{{ $labels.job }}",
            summary="No replica of {{ $labels.job }} answers",
        ),
        Alert(
            name="HeadraceCircuitOpen",
            # 0.5 while one call tries, which takes as long as a server that hangs lets it.
            expr="max by (job, dependency) (headrace_circuit_open) > 0",
            lasts="2m",
            keeps="2m",
            severity=_PAGE,
            board="{{ $labels.job }}",
            summary="{{ $labels.job }}: {{ $labels.dependency }} is at fault, and work waits",
        ),
        Alert(
            name="HeadraceAwsErrors",
            expr="sum by (job, api) (rate(headrace_aws_request_duration_seconds_count"
            '{outcome=~"server_error|unreachable"}[5m]))'
            " / sum by (job, api) (rate(headrace_aws_request_duration_seconds_count[5m])) > 0.05",
            lasts="5m",
            severity=_TICKET,
            board="{{ $labels.job }}",
            summary="{{ $labels.job }}: {{ $value | humanizePercentage }} of the calls to "
            "{{ $labels.api }} fail",
        ),
        Alert(
            name="HeadraceMessagesGivenUp",
            expr="sum by (actor) (increase(headrace_messages_given_up_total[15m])) > 0",
            lasts="0m",
            severity=_TICKET,
            board="dispatcher",
            summary="{{ $labels.actor }} gave up {{ $value | humanize }} messages",
        ),
        Alert(
            name="HeadraceRolledBack",
            expr='sum by (side) (increase(headrace_rollbacks_total{by="guard"}[15m])) > 0',
            lasts="0m",
            severity=_PAGE,
            board="dispatcher",
            summary="The guard took all jobs from {{ $labels.side }}",
        ),
        Alert(
            name="HeadraceRolloutsDiffer",
            expr="max(headrace_rollout_version) - min(headrace_rollout_version) > 0",
            lasts="2m",
            severity=_TICKET,
            board="dispatcher",
            summary="Dispatchers work by different versions of the roll-out",
        ),
        Alert(
            name="HeadraceStorageUnknown",
            expr="max(headrace_storage_unknown) > 0",
            lasts="1h",
            severity=_TICKET,
            board="ingest-api",
            summary="{{ $value }} objects in S3 belong to no job",
        ),
    ],
)

GROUPS: Final = (JOBS, REPORTS, SCHEDULER, CAMERAS, PARTS)
