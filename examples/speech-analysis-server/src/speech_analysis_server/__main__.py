"""`python -m speech_analysis_server`: run the server, configured by environment."""

from headrace_common.loading import loading

with loading():
    from headrace_common.web.serve import run_service
    from speech_analysis_server.app import SERVICE, build
    from speech_analysis_server.settings import SpeechSettings

if __name__ == "__main__":
    run_service(SERVICE, SpeechSettings.load(), build)
