"""Where `galprote-pipeline` begins: Ctrl-C is answered before anything else is imported."""

import os
import signal
import sys
import threading
from typing import Final, NoReturn

#: Exit code of a command that was stopped, and seconds that Python may take to end after it.
STOPPED: Final = 3
PATIENCE: Final = 5.0


def _stopped(*_: object) -> NoReturn:
    import shlex

    command = shlex.join(["galprote-pipeline", *sys.argv[1:]])
    os.write(2, f"SIGINT: stopped; nothing was begun. To go on:\n  {command}\n".encode(errors="replace"))
    os._exit(STOPPED)


def main() -> NoReturn:
    """Run the command line and exit."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for a job that a script began with `&`
        signal.signal(signal.SIGINT, _stopped)
    from galprote.workflows.cli import main as command

    try:
        command()
    except SystemExit as end:
        if end.code == STOPPED:  # an import that was interrupted may keep its lock from threads that are waited for
            last = threading.Timer(PATIENCE, os._exit, (STOPPED,))
            last.daemon = True
            last.start()
        raise


if __name__ == "__main__":
    main()
