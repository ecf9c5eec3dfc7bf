"""`python -m benchmarks`: every benchmark."""

from benchmarks.fleet import main

if __name__ == "__main__":
    main()
