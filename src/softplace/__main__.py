"""`python -m softplace` is the `softplace` command."""

from softplace.quick import main

main()
