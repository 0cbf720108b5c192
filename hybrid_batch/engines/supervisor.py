"""The process that owns one engine server: starts it, watches it, ends it.  It imports no model library.

``python -m hybrid_batch.engines.supervisor`` reads a :class:`~hybrid_batch.engines.launch_plan.LaunchPlan` as JSON
from standard input, goes into a session of its own and lives as long as the engine.  It ends the engine's whole
process group when its owner is gone, when nobody has leased it for a while, when the server died, or on SIGTERM.
Should it be killed with SIGKILL, the guard beside the server does it (:mod:`hybrid_batch.engines.launcher`).
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from filelock import Timeout

from hybrid_batch.engines import probe
from hybrid_batch.engines.launch_plan import LaunchPlan
from hybrid_batch.engines.lease import leased
from hybrid_batch.engines.processes import MARK, ProcessId, end_group
from hybrid_batch.engines.server_state import (
    ENDING,
    FAILED,
    READY,
    STARTING,
    EngineState,
    attach_lock,
    take_supervisor_lock,
    write_key,
    write_state,
)
from hybrid_batch.engines.start_failure import cause_of_failure, port_was_taken

POLL_SECONDS = 0.25
PORT_TRIES = 5
LOG_TAIL_BYTES = 256 * 1024


class Stop(Exception):
    """A reason to end the engine."""


class StartFailed(Stop):
    """The engine never became ready; the text's first line is the cause."""


class Supervisor:
    """One engine's life, start to end.  ``run`` returns when nothing of it is left."""

    def __init__(self, plan: LaunchPlan) -> None:
        self._plan = plan
        self._home = Path(plan.home)
        self._log = Path(plan.log_path)
        self._key = secrets.token_urlsafe(32)
        self._asked_to_stop = False
        self._server: subprocess.Popen[bytes] | None = None
        self.state = EngineState(
            phase=STARTING,
            engine_id=plan.engine_id,
            fingerprint=plan.fingerprint,
            owner=plan.owner,
            supervisor=ProcessId.of(os.getpid()),
            log_path=plan.log_path,
        )

    def announce(self) -> None:
        """Publish that a start is under way; attachers wait for this state to change."""
        write_key(self._home, self._key)
        self._write(phase=STARTING)

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        try:
            self._start()
            self._watch()
        except StartFailed as failure:
            self._end()
            self._write(phase=FAILED, error=str(failure))
        except Stop as reason:
            self._say(f"ending the engine: {reason}")
            self._write(phase=ENDING)
            self._end()
        except BaseException as fault:
            self._end()  # a fault of our own must not leave the engine behind either
            self._write(phase=FAILED, error=f"{type(fault).__name__}: {fault}; log: {self._log}")
            raise

    def _start(self) -> None:
        began = time.monotonic()
        for attempt in range(1, PORT_TRIES + 1):
            port = probe.free_port()
            log_start = self._log.stat().st_size
            self._launch(port)
            status = self._until_ready_or_dead(port, began)
            if status is None:
                break
            log = self._tail_of_log(log_start)
            if attempt == PORT_TRIES or not port_was_taken(log):
                raise StartFailed(cause_of_failure(log, status, self._plan.log_path))
            self._say(f"port {port} was taken in between, trying another")
        seconds = time.monotonic() - began
        window = probe.max_model_len(port, self._key)
        self._write(phase=READY, port=port, model=self._plan.model, max_model_len=window, load_seconds=seconds)
        self._say(f"ready on port {port} after {seconds:.1f} s")

    def _launch(self, port: int) -> None:
        command = [part.replace("{port}", str(port)) for part in self._plan.command]
        env = {**self._plan.env, MARK: self._plan.engine_id, self._plan.key_variable: self._key}
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                command,
                env=env,
                cwd=self._home,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._write(server=ProcessId.of(self._server.pid))

    def _until_ready_or_dead(self, port: int, began: float) -> int | None:
        """None once the server answers with our key, else its exit status."""
        assert self._server is not None
        while not probe.answers_our_key(port, self._key):
            status = self._server.poll()
            if status is not None:
                return status
            self._check_owner_and_signals()
            if time.monotonic() - began > self._plan.start_timeout_s:
                raise StartFailed(
                    f"not ready within start_timeout_s = {self._plan.start_timeout_s:g}; log: {self._plan.log_path}"
                )
            time.sleep(POLL_SECONDS)
        return None

    def _watch(self) -> None:
        assert self._server is not None
        used = time.time()
        while True:
            status = self._server.poll()
            if status is not None:
                raise Stop(f"the server ended with status {status}")
            self._check_owner_and_signals()
            if leased(self._home):
                used = time.time()
            elif time.time() - max(used, self._last_attach()) > self._plan.idle_timeout_s:
                self._end_if_idle()
            time.sleep(POLL_SECONDS)

    def _end_if_idle(self) -> None:
        """Decide under the lock, so that nobody attaches to an engine that is about to end."""
        try:
            with attach_lock(self._home, timeout_s=0):
                if leased(self._home) or time.time() - self._last_attach() <= self._plan.idle_timeout_s:
                    return
                self._write(phase=ENDING)
        except Timeout:
            return  # somebody is deciding about this engine right now
        raise Stop(f"idle for {self._plan.idle_timeout_s:g} s")

    def _last_attach(self) -> float:
        used = self._home / "used"
        return used.stat().st_mtime if used.exists() else 0.0

    def _check_owner_and_signals(self) -> None:
        if self._asked_to_stop:
            raise Stop("asked to stop")
        if not self._plan.owner.alive():
            raise Stop(f"its owner, process {self._plan.owner.pid}, is gone")

    def _end(self) -> None:
        if self._server is None:
            return
        end_group(self._server.pid, self._plan.engine_id, self._plan.grace_s, certain=True)
        self._server.wait()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def _write(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        write_state(self._home, self.state)

    def _say(self, text: str) -> None:
        with self._log.open("a") as log:
            log.write(f"[supervisor] {time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def _tail_of_log(self, start: int) -> str:
        with self._log.open("rb") as log:
            log.seek(max(start, self._log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode("utf-8", "replace")


def main() -> None:
    """Detach: the starter gets its prompt back once the state file says ``starting``."""
    plan = LaunchPlan.from_json(sys.stdin.read())
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(writer)
        sys.exit(0 if os.read(reader, 1) == b"+" else 1)
    os.close(reader)
    os.setsid()
    _redirect(plan.log_path)
    if take_supervisor_lock(Path(plan.home)) is None:
        raise SystemExit(f"{plan.home}: another supervisor is at work")
    supervisor = Supervisor(plan)
    supervisor.announce()
    os.write(writer, b"+")
    os.close(writer)
    supervisor.run()


def _redirect(log_path: str) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)


if __name__ == "__main__":
    main()
