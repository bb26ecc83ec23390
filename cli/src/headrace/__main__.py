"""The `headrace` program; also `python -m headrace`."""

from headrace_common.loading import loading

with loading():
    from headrace.main import main

if __name__ == "__main__":
    main()
