"""`python -m headrace_dispatcher`: run the dispatcher, configured by environment."""

from headrace_common.loading import loading

with loading():
    from headrace_common.web import run_service
    from headrace_dispatcher.app import build_app
    from headrace_dispatcher.settings import DispatcherSettings

if __name__ == "__main__":
    run_service("dispatcher", DispatcherSettings.load(), build_app)
