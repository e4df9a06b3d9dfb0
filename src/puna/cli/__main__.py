"""`python -m puna.cli`."""

from puna.cli import main

main()
