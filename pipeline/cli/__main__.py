"""`python -m pipeline.cli` is `prvr`."""

from pipeline.cli.main import main

main()
