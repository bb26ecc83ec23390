import pytest

from headrace_analysis import AnalysisSettings, CallbackNotAllowedError
from headrace_analysis.callback import check_callback
from headrace_common.settings import BadSettingsError

ALLOWED = ("results", "results.example:8443", "[::1]:8000", "Upper.example")


@pytest.mark.parametrize(
    "url",
    [
        "http://results/webhook?job_id=1",
        "http://results:8000/webhook",
        "https://RESULTS/webhook",
        "https://results.example:8443/x",
        "http://[::1]:8000/x",
        "http://upper.example/x",
    ],
)
def test_listed_hosts_are_allowed(url: str) -> None:
    check_callback(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "", "results", "//results/x", "ftp://results/x", "file:///etc/passwd", "http://",
        "http://elsewhere/x", "http://results.example/x", "https://results.example:8444/x",
        "http://results@elsewhere/x", "http://user:pw@results/x", "http://results\\@elsewhere/x",
        "http://results.elsewhere/x", "http://[::1]/x", "http://[::1", "http://results:port/x",
        "http://169.254.169.254/latest/meta-data",
    ],
)  # fmt: skip
def test_everything_else_is_not(url: str) -> None:
    with pytest.raises(CallbackNotAllowedError):
        check_callback(url, ALLOWED)


@pytest.mark.parametrize(
    ("environment", "fault"),
    [
        ({}, "CALLBACK_ALLOWED_HOSTS"),
        ({"ANSWER_VIA": "queue"}, "SQS_RESULT_QUEUE_URL"),
        ({"CALLBACK_ALLOWED_HOSTS": "x", "WEBHOOK_SECRETS": "whsec_short"}, "WEBHOOK_SECRETS"),
    ],
)
def test_settings_that_cannot_work_stop_the_process(
    environment: dict[str, str], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettingsError, match=fault):
        AnalysisSettings.load()


def test_hosts_are_read_from_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACK_ALLOWED_HOSTS", "one, two:80 three")
    assert AnalysisSettings.load().callback_allowed_hosts == ("one", "two:80", "three")
