"""What runbooks tell people to do and to look at exists."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from headrace_monitoring.__main__ import GROUPS, PROJECT
from headrace_monitoring.boards import BOARDS
from headrace_monitoring.rules import RUNBOOKS, Alert
from typer.main import get_command

from headrace.main import app

PAGES = sorted((PROJECT / RUNBOOKS).glob("*.md"))
REFERENCE = PROJECT / "docs" / "reference"
CODE = re.compile(r"`([^`]+)`")
SETTING = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")


@cache
def sources() -> str:
    files = [*PROJECT.glob("services/*/src/**/*.py"), *PROJECT.glob("libs/*/src/**/*.py")]
    return "\n".join(path.read_text() for path in files)


def wrong_command(words: list[str]) -> str | None:
    """Say what of a command line of ours there is not."""
    command: Any = get_command(app)
    rest = words[1:]
    while rest and hasattr(command, "commands"):
        found = command.commands.get(rest.pop(0))
        if found is None:
            return f"no such command: {' '.join(words)}"
        command = found
    options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    unknown = [word for word in rest if word.startswith("-") and word not in options]
    return f"{' '.join(words)}: no {unknown}" if unknown else None


def faults_of(page: Path) -> list[str]:
    text = page.read_text()
    faults = [
        f"no page {link}"
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text)
        if not (page.parent / link).exists()
    ]
    metrics, settings = ((REFERENCE / name).read_text() for name in ("metrics.md", "settings.md"))
    for code in CODE.findall(text):
        if code.startswith("headrace "):
            fault = wrong_command(shlex.split(code))
            faults += [fault] if fault else []
        elif code.startswith("headrace_"):
            faults += [] if f"`{code}`" in metrics else [f"no metric {code}"]
        elif EVENT.fullmatch(code):
            faults += [] if f'"{code}"' in sources() else [f"nothing logs {code}"]
        elif SETTING.fullmatch(code):
            faults += [] if f"`{code}`" in settings else [f"no setting {code}"]
    titles = {board.title for board in BOARDS} | {
        panel.title for board in BOARDS for row in board.rows for panel in row.panels
    }
    titles |= {row.title for board in BOARDS for row in board.rows}
    named = [*re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", text), *re.findall(r'"([A-Z][^"]+)"', text)]
    return faults + [f"no dashboard or panel {name}" for name in named if name not in titles]


def test_a_runbook_names_the_dashboard_that_its_alert_leads_to() -> None:
    titles = {board.name: board.title for board in BOARDS}
    missing = []
    for group in GROUPS:
        for alert in group.rules:
            # Where the alert says which service it is, the dashboard is that service's.
            if isinstance(alert, Alert) and not alert.board.startswith("{{"):
                text = (PROJECT / alert.runbook).read_text()
                title = titles[alert.board]
                missing += [] if f"*{title}*" in text else [f"{alert.name}: {title}"]
    assert missing == []


def test_deployments_that_runbooks_name_exist() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"deployment/([\w-]+)", page.read_text())
    }
    there = {path.parent.name for path in (PROJECT / "k8s" / "base").glob("*/deployment.yaml")}
    assert named - {"NAME"} <= there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_runbook_names_exists(page: Path) -> None:
    assert faults_of(page) == []


def test_what_is_not_there_is_found_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`headrace dead bury` `headrace dead list --all` `headrace_nothing` `nothing.logged` "
        "`NO_SUCH_SETTING` *Nowhere* [x](nowhere.md)"
    )
    assert len(faults_of(page)) == 7
