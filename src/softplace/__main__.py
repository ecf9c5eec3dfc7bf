"""`python -m softplace` is the `softplace` command."""

from softplace.cli import main

main()
