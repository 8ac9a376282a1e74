"""`python -m scdae.cli`."""

from scdae.cli import main

main()
