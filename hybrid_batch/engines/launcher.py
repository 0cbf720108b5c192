"""Run a server module under a guard that leaves nothing behind.  Standard library only, run by path.

``python launcher.py MODULE [ARG ...]`` is started as the leader of its own process group, with its standard input
a pipe that only its starter holds open.  A small guard process in the same group waits for one of two things: the
pipe closes (the starter is gone, however it died) or the server is no longer its parent (the server died).  Either
way the guard sends SIGKILL to the whole group, itself included.  Nothing has to be cleaned up by anyone else, so the
rule holds when the starter is killed with SIGKILL while the server is still loading.

The interpreter that runs this file may lack our package; that is why nothing of it is imported here.
"""

import os
import runpy
import select
import signal
import sys

POLL_SECONDS = 0.25


def start_guard() -> None:
    """Fork the guard; returns in the server only."""
    server = os.getpid()
    if os.fork() != 0:
        return
    # A graceful stop sends SIGTERM to the group: the guard must outlive the server to see its end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    closed = False
    while os.getppid() == server and not closed:
        ready, _, _ = select.select([0], [], [], POLL_SECONDS)
        closed = bool(ready) and os.read(0, 64) == b""
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    if os.getpgrp() != os.getpid():
        raise SystemExit("launcher: must lead its own process group, else its guard would end its starter too")
    module, *arguments = sys.argv[1:]
    start_guard()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.path.pop(0)  # this file's folder; it holds nothing to import
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
