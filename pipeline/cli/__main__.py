"""`prvr`, also as `python -m pipeline.cli`: Ctrl-C ends it in silence while its libraries still load."""

import signal


def start() -> None:
    """Run the command line. Until it attends to signals itself, Ctrl-C ends it as it ends any program, without a traceback of imports.

    What was told to ignore Ctrl-C (a script's background) goes on ignoring it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pipeline.cli.main import main  # most of a second

    main()


if __name__ == "__main__":
    start()
