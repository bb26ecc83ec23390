"""`python -m headrace`."""

from headrace.main import main

if __name__ == "__main__":
    main()
