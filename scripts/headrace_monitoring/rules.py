"""What a rule is, and how Prometheus and its operator want to be told."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import yaml

#: Alerts name the page that says what to do, as seen from the project's root.
RUNBOOKS: Final = "docs/runbooks"


class Severity(StrEnum):
    """How soon somebody must look."""

    PAGE = "page"  #: now, at night too
    TICKET = "ticket"  #: within working days


@dataclass(frozen=True)
class Recording:
    """An expression that is kept as a series."""

    record: str
    expr: str
    labels: dict[str, str] = field(default_factory=dict)

    def as_rule(self) -> dict[str, Any]:
        """Return it as a rules file has it."""
        rule: dict[str, Any] = {"record": self.record, "expr": self.expr}
        return rule | ({"labels": self.labels} if self.labels else {})


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A condition that somebody must hear of.

    Attributes:
        name: in camel case; the runbook is of the same name.
        expr: true while there is anything in its answer.
        lasts: how long it must hold.
        summary: one line, with the labels that tell one case from another.
        board: name of the dashboard on which to look first; may be a template, as the summary.
        keeps: how long it stays after the condition ended, against flapping.
    """

    name: str
    expr: str
    lasts: str
    severity: Severity
    summary: str
    board: str
    keeps: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def runbook(self) -> str:
        """Its page, as seen from the project's root."""
        return f"{RUNBOOKS}/{self.name}.md"

    def as_rule(self) -> dict[str, Any]:
        """Return it as a rules file has it."""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expr, "for": self.lasts}
        if self.keeps:
            rule["keep_firing_for"] = self.keeps
        return rule | {
            "labels": {"severity": self.severity.value, **self.labels},
            "annotations": {
                "summary": self.summary,
                "runbook": self.runbook,
                # As seen from Grafana's root.
                "dashboard": f"/d/headrace-{self.board}",
            },
        }


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated together, in order."""

    name: str
    rules: Sequence[Recording | Alert]
    interval: str = "15s"

    def as_group(self) -> dict[str, Any]:
        """Return it as a rules file has it."""
        return {
            "name": self.name,
            "interval": self.interval,
            "rules": [rule.as_rule() for rule in self.rules],
        }


def rules_file(groups: Sequence[Group]) -> str:
    """Return the file that a Prometheus of one's own loads."""
    return _dump({"groups": [group.as_group() for group in groups]})


def prometheus_rule(groups: Sequence[Group]) -> str:
    """Return the resource that Prometheus' operator takes."""
    return _dump(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "headrace"},
            "spec": {"groups": [group.as_group() for group in groups]},
        }
    )


def _dump(content: dict[str, Any]) -> str:
    # Without `width` an expression would be folded where it is hard to read.
    text = yaml.safe_dump(content, sort_keys=False, width=1_000, allow_unicode=True)
    return f"# Written by `make monitoring` from scripts/headrace_monitoring.\n{text}"
