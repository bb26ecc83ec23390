"""`python -m headrace_gpu_preprocessor`: run the service, configured by environment."""

from headrace_common.loading import loading

with loading():
    from headrace_common.web import run_service
    from headrace_gpu_preprocessor.app import build_app
    from headrace_gpu_preprocessor.settings import PreprocessorSettings

if __name__ == "__main__":
    run_service("gpu-preprocessor", PreprocessorSettings.load(), build_app)
