"""Every rule, by promtool: each alert fires when it should, and not when it should not."""

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml
from headrace_monitoring import slo
from headrace_monitoring.__main__ import GROUPS, PLACE, PROJECT, files
from headrace_monitoring.boards import BOARDS
from headrace_monitoring.rules import RUNBOOKS, Alert, Group, Recording, rules_file
from headrace_monitoring.slo import OBJECTIVES, WINDOWS
from k8s_manifests import kubectl
from rule_cases import CASES, Case

from headrace_local.tools import ensure_prometheus

RULES = [rule for group in GROUPS for rule in group.rules]
ALERTS = [rule for rule in RULES if isinstance(rule, Alert)]
ALERT = {alert.name: alert for alert in ALERTS}


def promtool(tmp_path: Path, *files: tuple[list[Group], list[dict[str, Any]], str]) -> str:
    """Run promtool on tests, each with the rules that they are of and the step of evaluation."""
    paths = []
    for number, (groups, tests, step) in enumerate(files):
        rules, path = tmp_path / f"rules{number}.yaml", tmp_path / f"tests{number}.yaml"
        rules.write_text(rules_file(groups))
        content = {"rule_files": [str(rules)], "evaluation_interval": step, "tests": tests}
        path.write_text(yaml.safe_dump(content))
        paths.append(str(path))
    command = [str(ensure_prometheus() / "promtool"), "test", "rules", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def rules_of(case: Case) -> list[Group]:
    """Return the rules that a case needs: all at once take ten times as long."""
    (group,) = [each for each in GROUPS if ALERT[case.alert] in each.rules]
    if group.name != "headrace-slo-alerts":
        return [group]
    return [*(each for each in GROUPS if each.name == "headrace-slo-api_availability"), group]


def as_test(number: int, case: Case) -> dict[str, Any]:
    firing = f'ALERTS{{alertname="{case.alert}",alertstate="firing",{case.where}}}'
    expected = [{"labels": f'{{alertname="{case.alert}"}}', "value": case.alerts}]
    return {
        "name": f"case {number}: {case.alert}",
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in case.series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f"count by (alertname) ({firing})",
                "eval_time": f"{case.at}m",
                "exp_samples": expected if case.alerts else [],
            }
        ],
    }


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    files = [
        (rules_of(case), [as_test(number, case)], "5m" if case.at > 100 else "1m")
        for number, case in enumerate(CASES)
    ]
    assert promtool(tmp_path, *files) == ""


def test_every_alert_has_both_cases_and_a_runbook_and_no_runbook_is_left_over() -> None:
    names = {alert.name for alert in ALERTS}
    assert {case.alert for case in CASES if case.alerts} == names
    assert {case.alert for case in CASES if not case.alerts} == names
    pages = {path.stem for path in (PROJECT / RUNBOOKS).glob("Headrace*.md")}
    assert pages == names


def test_a_broken_rule_is_found_out(tmp_path: Path) -> None:
    case = Case("HeadraceQueuePaused", {'headrace_queue_paused{queue="q"}': "0x300"}, 250, 1)
    assert "HeadraceQueuePaused" in promtool(tmp_path, (rules_of(case), [as_test(0, case)], "5m"))


def test_every_recording_says_what_it_is_called(tmp_path: Path) -> None:
    recorded = {rule.record for rule in RULES if isinstance(rule, Recording)}
    ratios = {f"headrace:slo_errors:ratio_rate{window}" for window in WINDOWS}
    rates = {f"headrace:slo_events:rate{window}" for window in WINDOWS}
    assert recorded == ratios | rates | {"headrace:slo_budget:ratio"}
    # Ten events a second, of which one goes wrong, for three days.
    jobs = 'headrace_job_duration_seconds_{0}{{kind="{1}",lane="high",status="{2}"{3}}}'
    series = {
        'headrace_http_request_duration_seconds_count{job="results",route="/j",status="200"}': 9,
        'headrace_http_request_duration_seconds_count{job="results",route="/j",status="503"}': 1,
        jobs.format("bucket", "audio_analysis", "completed", ',le="900.0"'): 9,
        jobs.format("count", "audio_analysis", "completed", ""): 10,
        jobs.format("count", "audio_analysis", "cancelled", ""): 5,
        jobs.format("bucket", "cctv_preprocess", "completed", ',le="1800.0"'): 9,
        jobs.format("count", "cctv_preprocess", "completed", ""): 9,
        jobs.format("count", "cctv_preprocess", "failed", ""): 1,
        'headrace_schedule_drift_seconds_bucket{le="1.0"}': 9,
        "headrace_schedule_drift_seconds_count": 10,
    }
    budgets = {each.slo: each.budget for each in OBJECTIVES}
    expected: dict[str, dict[str, float]] = {"headrace:slo_budget:ratio": budgets}
    expected |= {name: dict.fromkeys(budgets, 0.1) for name in ratios}
    expected |= {name: dict.fromkeys(budgets, 10.0) for name in rates}
    test = {
        "interval": "2m",
        "input_series": [
            {"series": name, "values": f"0+{120 * each}x2200"} for name, each in series.items()
        ],
        "promql_expr_test": [
            {
                # Rates are extrapolated to the ends of their window: rounded, they are exact.
                "expr": f"round({name}, 0.0001)",
                "eval_time": "72h",
                "exp_samples": [
                    {"labels": f'{{slo="{slo}"}}', "value": value} for slo, value in values.items()
                ],
            }
            for name, values in expected.items()
        ],
    }
    assert promtool(tmp_path, (slo.groups(), [test], "12h")) == ""


def test_every_file_is_applied() -> None:
    command = [kubectl(), "kustomize", str(PLACE)]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    resources = list(yaml.safe_load_all(rendered))
    (rule,) = [each for each in resources if each["kind"] == "PrometheusRule"]
    assert len(rule["spec"]["groups"]) == len(GROUPS)
    maps = [each for each in resources if each["kind"] == "ConfigMap"]
    held = {name: json.loads(text)["uid"] for each in maps for name, text in each["data"].items()}
    assert held == {f"{board.name}.json": f"headrace-{board.name}" for board in BOARDS}
    assert {each["metadata"]["labels"]["grafana_dashboard"] for each in maps} == {"1"}


def test_the_committed_files_are_those_that_the_code_writes() -> None:
    stale = [path.name for path, text in files() if path.read_text() != text]
    assert stale == []
