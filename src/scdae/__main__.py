"""``python -m scdae``: the commands, where the script is not on the path."""

from scdae.cli import main

main()
