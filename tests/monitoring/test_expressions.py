"""Every expression of a panel or a rule asks for metrics and labels that there are."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml
from headrace_monitoring.__main__ import GROUPS, PROJECT
from headrace_monitoring.boards import BOARDS
from headrace_monitoring.panels import RATE
from headrace_monitoring.rules import Alert

from headrace_local.tools import ensure_prometheus

#: A metric of ours, with what stands in braces behind it.
SELECTOR = re.compile(r"(headrace_\w+|headrace:\w+:\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
GROUPING = re.compile(r"(?:by|on)\s*\(([^)]*)\)")
#: What Prometheus itself, or a rule, adds.
ADDED = {
    *("job", "instance", "le", "slo", "alertname", "alertstate", "severity", "version", "revision"),
}


def expressions() -> Iterator[tuple[str, str]]:
    for board in BOARDS:
        for title, expr in board.expressions():
            yield f"{board.name}: {title}", expr.replace(RATE, "[1m]")
    for group in GROUPS:
        for rule in group.rules:
            yield rule.name if isinstance(rule, Alert) else rule.record, rule.expr


def documented() -> dict[str, set[str]]:
    """Return the metrics of the reference, which `make check` keeps true, with their labels."""
    page = (PROJECT / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(headrace_\w+)` \| (\w+) \|[^|]*\|([^|]*)\|", page, re.MULTILINE)
    found: dict[str, set[str]] = {}
    for name, kind, labels in rows:
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            found[name + suffix] = set(re.findall(r"`(\w+)`", labels))
    return found


def test_every_metric_and_label_exists() -> None:
    known = documented()
    recorded = {rule.record for group in GROUPS for rule in group.rules if hasattr(rule, "record")}
    faults = []
    for where, expr in expressions():
        labels: set[str] = set(ADDED)
        for name, chosen in SELECTOR.findall(expr):
            if name in recorded:
                continue
            if name not in known:
                faults.append(f"{where}: no metric {name}")
                continue
            labels |= known[name]
            wrong = set(LABEL.findall(chosen)) - known[name] - ADDED
            faults += [f"{where}: {name} has no label {label}" for label in wrong]
        for group in GROUPING.findall(expr):
            wrong = {each.strip() for each in group.split(",")} - labels - {""}
            faults += [f"{where}: nothing has the label {label}" for label in wrong]
    assert faults == []


def test_every_expression_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"e:{number}", "expr": expr} for number, (_, expr) in enumerate(expressions())
    ]
    assert len(rules) > 150
    file = tmp_path / "expressions.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "e", "rules": rules}]}))
    command = [str(ensure_prometheus() / "promtool"), "check", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_names_follow_prometheus_conventions() -> None:
    page = (PROJECT / "docs" / "reference" / "metrics.md").read_text()
    faults = []
    for name, kind in re.findall(r"^\| `(headrace_\w+)` \| (\w+) \|", page, re.MULTILINE):
        stem = name.removesuffix("_total")
        if (kind == "counter") != name.endswith("_total"):
            faults.append(f"{name}: only counters end in _total, and all of them do")
        if re.search(r"_(ms|milliseconds|minutes|hours|days|kb|mb|percent)(_|$)", stem):
            faults.append(f"{name}: seconds, bytes and ratios only")
        if kind == "histogram" and stem.endswith(("_bucket", "_sum", "_count")):
            faults.append(f"{name}: a suffix of histograms")
    assert faults == []
