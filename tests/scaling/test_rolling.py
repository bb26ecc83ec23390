"""A short rolling restart under load, as `make rolling` does long ones; and what counts there."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from headrace_chaos.plan import Shares
from headrace_chaos.violations import Violation, ViolationKind
from headrace_rolling.account import Account, tables
from headrace_rolling.clients import OneTry
from headrace_rolling.driver import PLANTED, Driver, Options
from headrace_rolling.load import Pace
from headrace_rolling.releases import PREVIOUS, NoHistoryError, folders_of, unpack
from headrace_rolling.tally import Tally

from headrace_common.db import migrate
from headrace_local.parts import Part

CLEAN: Final = Account(
    title="clean",
    is_planted=False,
    seconds=1,
    replaced={"results": 1},
    requests=[("job", 10, 0)],
    failures={},
    webhooks=(4, 0),
    is_drained=True,
    followed=1,
    connections=2,
    accepted={"upload": 1},
    ended={"completed": 1},
    violations=[],
    firings=1,
    misfired=[],
    sent_again=0,
    unsettled=[],
)


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(900)  # a minute where nothing else runs
def test_replicas_are_replaced_under_load_and_no_request_fails(tmp_path: Path) -> None:
    """Every role, schedules, and earlier versions beside it: `make rolling`."""
    # Nobody analyses: each job is cancelled by its client, and has to end so.
    pace = Pace(
        jobs_per_second=2,
        look_seconds=0.5,
        shares=Shares(
            camera=0, direct=0, twice=0.2, cancel=1, retry=0, follow=1, replay=0, too_short=0
        ),
    )
    options = Options(
        tmp_path,
        parts=(Part.AUDIO,),
        services=("ingest-api", "dispatcher", "results"),
        restarted=PLANTED,
        replicas=1,
        releases=(),
        pace=pace,
    )
    restarted, planted = Driver(options, say=print).run()

    assert list(restarted.faults()) == []
    assert restarted.is_right
    assert restarted.replaced == dict.fromkeys(PLANTED, 1)
    assert restarted.ended.keys() == {"cancelled"}
    assert sum(restarted.accepted.values()) == sum(restarted.ended.values()) > 5
    assert restarted.followed > 0
    # The same without a drain is what the account is there for.
    assert planted.failed > 0
    assert planted.is_right


@pytest.mark.parametrize(
    "wrong",
    [
        {"requests": [("job", 10, 1)]},
        {"webhooks": (4, 1)},
        {"violations": [Violation(ViolationKind.LOST, "one", "")]},
        {"misfired": ["a due time fired twice"]},
        {"unsettled": ["1 jobs not final"]},
    ],
)
def test_an_account_with_a_fault_is_not_clean(wrong: dict[str, object]) -> None:
    assert CLEAN.is_right
    account = replace(CLEAN, **wrong)  # type: ignore[arg-type]
    assert not account.is_clean
    assert not account.is_right


def test_a_planted_fault_has_to_be_seen() -> None:
    assert not replace(CLEAN, is_planted=True).is_right
    assert replace(CLEAN, is_planted=True, requests=[("job", 10, 1)]).is_right


def test_the_tables_show_accounts_side_by_side() -> None:
    other = replace(CLEAN, title="other", requests=[("list", 7, 2)])
    lines = list(tables([CLEAN, other]))
    assert "| **failed requests** | **0** | **2** |" in lines
    assert "| job | 0 of 10 |  |" in lines
    assert "| list |  | 2 of 7 |" in lines


class Closing(http.server.BaseHTTPRequestHandler):
    """Answers once on a connection, says nothing of its end, and closes it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        status = 503 if self.path == "/busy" else 200
        self.send_response_only(status)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass


@pytest.fixture
def closing() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Closing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("failed", [1, 0])
def test_a_kept_connection_that_was_closed_without_a_word_fails_the_next_request(
    closing: str, failed: int
) -> None:
    tally = Tally()
    asker = OneTry({"results": closing}, {}, tally, keeps=bool(failed))
    answers = [asker.ask("results", "GET", "/jobs") for _ in range(2)]
    asker.close()
    assert [answer is not None for answer in answers] == [True, not failed]
    assert tally.rows == [("list of jobs", 2, failed)]


def test_a_server_that_asks_to_wait_fails_a_request(closing: str) -> None:
    tally = Tally()
    asker = OneTry({"results": closing}, {}, tally, keeps=False)
    assert asker.ask("results", "GET", "/busy") is not None
    asker.close()
    assert tally.rows == [("GET /busy", 1, 1)]


def test_the_version_before_is_the_one_without_the_newest_migration(tmp_path: Path) -> None:
    try:
        tree = unpack(PREVIOUS, tmp_path)
    except NoHistoryError as error:
        pytest.skip(f"this tree has no history: {error}")
    [common] = [folder for folder in folders_of(tree) if folder.endswith("libs/common/src")]
    versions = Path("headrace_common") / "db" / "migrations" / "versions"
    before = {path.name for path in (Path(common) / versions).glob("0*.py")}
    present = {path.name for path in (Path(migrate.__file__).parents[2] / versions).glob("0*.py")}
    newest = max(present)
    assert present - before == {newest}, "pin the commit before the newest migration"
    assert PREVIOUS.schema == max(before)[:4]
