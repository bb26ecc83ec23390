"""Rows that every service's dashboard has."""

from headrace_monitoring.panels import (
    RATE,
    Graph,
    Number,
    Query,
    Row,
    Unit,
    or_none,
    quantile,
    rate,
)

_HTTP = "headrace_http_request_duration_seconds"


def requests(job: str) -> Row:
    """Return rate, errors and duration of the requests to a service, by route."""
    mine = f'job="{job}",route!~"/metrics|/health.*"'
    answered = 'sum(rate({name}_count{{job="{job}"{more}}}{window}))'
    failed = answered.format(name=_HTTP, job=job, more=',status=~"5.."', window=RATE)
    every = answered.format(name=_HTTP, job=job, more="", window=RATE)
    return Row(
        "Requests",
        [
            Graph(
                "Rate by route",
                [
                    Query(
                        rate(f"{_HTTP}_count", "method", "route", where=f'job="{job}"'),
                        "{{method}} {{route}}",
                    )
                ],
                Unit.REQUESTS,
                "How much is asked, probes and scrapes included",
            ),
            Graph(
                "Answered with 5xx",
                [Query(f"({failed} or vector(0)) / {every}", "share of all")],
                Unit.RATIO,
                "What counts against the objective on availability",
            ),
            Graph(
                "Duration, 95th percentile",
                [Query(quantile(0.95, _HTTP, "route", where=f'job="{job}"'), "{{route}}")],
                Unit.SECONDS,
                "Until the end of the answer; event streams last as long as their clients stay",
            ),
            Graph(
                "Refused or failed, by status",
                [
                    Query(
                        or_none(
                            rate(f"{_HTTP}_count", "status", where=f'{mine},status!~"2..|3.."')
                        ),
                        "{{status}}",
                    )
                ],
                Unit.REQUESTS,
                "Which answers clients get instead of what they want",
            ),
            *_process(job),
        ],
    )


def _process(job: str) -> list[Graph]:
    return [
        Graph(
            "Processor",
            [Query(f'rate(process_cpu_seconds_total{{job="{job}"}}{RATE})', "{{instance}}")],
            Unit.COUNT,
            "Cores that each replica uses",
        ),
        Graph(
            "Memory",
            [Query(f'process_resident_memory_bytes{{job="{job}"}}', "{{instance}}")],
            Unit.BYTES,
            "Of each replica, without its child processes",
        ),
    ]


def numbers(job: str) -> list[Number]:
    """Return what stands at the top of each service's dashboard."""
    return [
        Number(
            "Replicas",
            Query(f'sum(up{{job="{job}"}})'),
            Unit.COUNT,
            "Those that answer Prometheus",
            green_from=1,
        ),
        Number(
            "Builds",
            Query(f'count(count by (version, revision) (headrace_build_info{{job="{job}"}}))'),
            Unit.COUNT,
            "More than one: a roll-out is under way, or has stopped half way",
            red_from=2,
        ),
    ]


def aws(job: str) -> Row:
    """Return what a service asks of S3 and SQS."""
    name = "headrace_aws_request_duration_seconds"
    mine = f'job="{job}"'
    faults = f'{mine},outcome=~"server_error|unreachable"'
    return Row(
        "S3 and SQS",
        [
            Graph(
                "Calls",
                [
                    Query(
                        rate(f"{name}_count", "api", "operation", where=mine),
                        "{{api}} {{operation}}",
                    )
                ],
                Unit.REQUESTS,
                "SQS bills by the call",
            ),
            Graph(
                "Calls that fail",
                [Query(or_none(rate(f"{name}_count", "api", where=faults)), "{{api}}")],
                Unit.REQUESTS,
                "5xx or no answer, after botocore's own tries",
            ),
            Graph(
                "Duration, 95th percentile",
                [
                    Query(
                        quantile(0.95, name, "api", "operation", where=mine),
                        "{{api}} {{operation}}",
                    )
                ],
                Unit.SECONDS,
                "ReceiveMessage waits for messages, up to 20 s by design",
            ),
        ],
    )
