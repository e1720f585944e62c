"""`python -m hub` is `hubbub`."""

from hub.cli import main

main(prog_name="hubbub")
