"""`python -m headrace_results`: run the results service, configured by environment."""

from headrace_common.loading import loading

with loading():
    from headrace_common.web import run_service
    from headrace_results.app import build_app
    from headrace_results.settings import ResultsSettings

if __name__ == "__main__":
    run_service("results", ResultsSettings.load(), build_app)
