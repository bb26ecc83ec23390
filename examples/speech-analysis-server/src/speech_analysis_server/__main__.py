"""`python -m speech_analysis_server`: run the server, configured by environment."""

if __name__ == "__main__":  # its child processes load this module too, and serve nothing
    from headrace_common.loading import loading

    with loading():
        from headrace_common.web.serve import run_service
        from speech_analysis_server.app import SERVICE, build
        from speech_analysis_server.settings import SpeechSettings

    run_service(SERVICE, SpeechSettings.load(), build)
