"""prvr from Python: docs/python.md."""
