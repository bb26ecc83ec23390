import pytest
from pydantic import ValidationError

from headrace_results.settings import ResultsSettings

LEAST = {
    "database_url": "postgresql://localhost/x",
    "webhook_url": "http://localhost/webhooks/analysis",
    "callback_token_secrets": "x" * 32,
}


def test_the_least_settings_suffice() -> None:
    assert ResultsSettings.model_validate(LEAST).job_retention.days == 30


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"callback_token_secrets": ""}, "WEBHOOK_SECRETS or CALLBACK_TOKEN_SECRETS"),
        ({"database_pool_size": 15, "results_worker_threads": 4}, None),
        ({"database_pool_size": 14, "results_worker_threads": 4}, "DATABASE_POOL_SIZE"),
        ({"database_pool_size": 11, "cctv_enabled": False}, None),
        ({"swift_temp_url_key": "x"}, "SWIFT_STORAGE_URLS"),
        ({"swift_storage_urls": "swift.example.org/v1/AUTH_x"}, "https:// URL"),
        ({"swift_storage_urls": "https://swift.example.org/v1/AUTH_x, http://b:8080"}, None),
        ({"database_pool_size": 10, "results_worker_threads": 8}, "DATABASE_POOL_SIZE"),
        ({"inbox_max_attempts": 0}, "greater than or equal to 1"),
        ({"sqs_result_wait_seconds": 21}, "less than or equal to 20"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    changes: dict[str, object], fault: str | None
) -> None:
    if fault is None:
        ResultsSettings.model_validate(LEAST | changes)
        return
    with pytest.raises(ValidationError, match=fault):
        ResultsSettings.model_validate(LEAST | changes)
