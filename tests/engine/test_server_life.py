"""An engine's life with a real (fake-model) server: found, started, replaced, ended; never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from hybrid_batch.core.errors import EngineStartError
from hybrid_batch.engines.lease import leased
from hybrid_batch.engines.processes import ProcessId, group_members
from hybrid_batch.engines.server_state import READY, STARTING, EngineState, read_key, read_state
from hybrid_batch.engines.vllm_server import alive, attach, attached, discard, lease, stop

ATTACH = """
import sys
from pathlib import Path
from hybrid_batch.engines.base import ServerRecipe
from hybrid_batch.engines.vllm_server import attach
recipe = ServerRecipe(tier="small", model="org/fake-model", server="fake", start_timeout_s=60.0)
print(attach(recipe, Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])).engine_id)
"""

LEASE = """
import sys, time
from pathlib import Path
from hybrid_batch.engines.vllm_server import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(3600)
"""


def state_of(home: Path) -> EngineState:
    state = read_state(home)
    assert state is not None
    return state


def server_of(home: Path) -> ProcessId:
    server = state_of(home).server
    assert server is not None
    return server


def test_a_second_attach_finds_the_same_engine(home, logs, fake):
    first = attach(fake(), home, os.getpid(), logs)
    second = attach(fake(), home, os.getpid(), logs)
    assert second == first
    assert first.load_seconds > 0
    assert first.max_model_len == 4096
    assert first.model == "fake-model"
    assert alive(first, home)


def test_processes_that_attach_at_once_share_one_engine(home, logs, fake):
    command = [sys.executable, "-c", ATTACH, str(home), str(os.getpid()), str(logs)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = {racer.communicate(timeout=120)[0].strip() for racer in racers}
    assert len(found) == 1
    assert found == {state_of(home).engine_id}


def kill_server(home: Path) -> None:
    os.kill(server_of(home).pid, signal.SIGKILL)


def kill_supervisor(home: Path) -> None:
    os.kill(state_of(home).supervisor.pid, signal.SIGKILL)


def kill_both(home: Path) -> None:
    kill_supervisor(home)
    kill_server(home)


def terminate_supervisor(home: Path) -> None:
    os.kill(state_of(home).supervisor.pid, signal.SIGTERM)


def kill_server_and_guard(home: Path) -> None:
    group = group_members(server_of(home).pid)
    for pid in (pid for pid in group if any("launcher.py" in word for word in psutil.Process(pid).cmdline())):
        os.kill(pid, signal.SIGKILL)


ENDS = [kill_server, kill_supervisor, kill_both, kill_server_and_guard, terminate_supervisor]


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_when_a_part_is_killed_and_attach_works_again(end, home, logs, fake, until, left_of):
    first = attach(fake(children=2), home, os.getpid(), logs)
    before = state_of(home)
    assert len(group_members(server_of(home).pid)) == 4  # server, guard, two children
    end(home)
    until(lambda: not left_of(before))
    assert not alive(first, home)
    again = attach(fake(children=2), home, os.getpid(), logs)
    assert again.engine_id != first.engine_id
    assert alive(again, home)


def test_a_terminals_ctrl_c_does_not_reach_the_engine(home, logs, fake):
    attach(fake(children=1), home, os.getpid(), logs)
    members = [state_of(home).supervisor.pid, *group_members(server_of(home).pid)]
    assert os.getsid(0) not in {os.getsid(pid) for pid in members}


def test_the_owners_end_is_the_engines_end(home, logs, fake, owner, until, left_of):
    attach(fake(children=1), home, owner.pid, logs)
    before = state_of(home)
    owner.kill()
    owner.wait()
    until(lambda: not left_of(before))


@pytest.mark.parametrize("end", [kill_supervisor, terminate_supervisor])
def test_a_start_that_is_interrupted_leaves_nothing(end, home, logs, fake, until, left_of):
    recipe = fake(start_seconds=3600, children=1, recipe={"start_timeout_s": 5.0})

    def give_up() -> None:
        with contextlib.suppress(EngineStartError):
            attach(recipe, home, os.getpid(), logs)

    caller = threading.Thread(target=give_up)
    caller.start()
    until(lambda: _has_server(home))
    first = state_of(home)
    end(home)
    caller.join()  # it starts anew, and gives up in the end
    last = state_of(home)
    until(lambda: not left_of(first) and not left_of(last))


def _has_server(home: Path) -> bool:
    state = read_state(home) if home.is_dir() else None
    return state is not None and state.phase == STARTING and state.server is not None


def test_a_caller_killed_while_it_waits_leaves_an_engine_that_ends_with_its_owner(
    home, logs, owner, until, left_of, fake
):
    code = ATTACH.replace('server="fake"', 'server="fake", engine_args=(("start_seconds", 3600), ("children", 1))')
    caller = subprocess.Popen([sys.executable, "-c", code, str(home), str(owner.pid), str(logs)])
    until(lambda: _has_server(home))
    caller.kill()
    caller.wait()
    state = state_of(home)
    assert state.supervisor.alive()
    owner.kill()
    owner.wait()
    until(lambda: not left_of(state))


def test_a_stopped_process_is_replaced(home, logs, fake, left_of):
    first = attach(fake(children=1), home, os.getpid(), logs)
    before = state_of(home)
    os.kill(server_of(home).pid, signal.SIGSTOP)  # it is there and answers nothing
    again = attach(fake(children=1), home, os.getpid(), logs)
    assert again.engine_id != first.engine_id
    assert not left_of(before)


def test_discard_ends_the_engine_meant_and_no_other(home, logs, fake, left_of):
    with attached(fake(), home, os.getpid(), logs) as first:
        before = state_of(home)
        discard(first, home)
        assert not left_of(before)
    second = attach(fake(), home, os.getpid(), logs)
    discard(first, home)
    assert alive(second, home)


def test_an_idle_engine_ends_and_a_leased_one_stays(home, logs, fake, until, left_of):
    with attached(fake(recipe={"idle_timeout_s": 0.5}), home, os.getpid(), logs) as engine:
        state = state_of(home)
        time.sleep(2.0)  # four times what it may be idle
        assert alive(engine, home)
    until(lambda: not left_of(state))
    assert "idle for 0.5 s" in Path(state.log_path).read_text()


def test_a_lease_ends_with_its_process(home, logs, until):
    home.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", LEASE, str(home)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert leased(home)
    holder.kill()
    holder.communicate()
    assert not leased(home)
    assert list((home / "leases").iterdir()) == []


def test_another_recipe_replaces_the_engine_once_nobody_uses_it(home, logs, fake, until, left_of):
    other = fake(recipe={"model": "org/other-model"})
    found = []
    waiting = threading.Thread(target=lambda: found.append(attach(other, home, os.getpid(), logs)))
    with attached(fake(), home, os.getpid(), logs) as first:
        before = state_of(home)
        waiting.start()
        time.sleep(3.0)  # longer than a fresh engine is spared
        assert alive(first, home)
        assert found == []
    waiting.join()
    assert found[0].model == "other-model"
    assert not left_of(before)


def test_an_engine_is_replaced_although_the_clock_was_set_back(home, logs, fake):
    attach(fake(), home, os.getpid(), logs)
    ahead = time.time() + 3600
    for name in ("used", "state.json"):
        os.utime(home / name, (ahead, ahead))
    other = fake(recipe={"model": "org/other-model", "start_timeout_s": 20.0})
    assert attach(other, home, os.getpid(), logs).model == "other-model"


def test_tiers_that_differ_in_name_and_patience_share_an_engine(home, logs, fake):
    first = attach(fake(), home, os.getpid(), logs)
    second = attach(fake(recipe={"tier": "large", "request_timeout_s": 7.0}), home, os.getpid(), logs)
    assert second.engine_id == first.engine_id


def test_stop_leaves_nothing_and_may_be_repeated(home, logs, fake, left_of):
    attach(fake(children=1), home, os.getpid(), logs)
    state = state_of(home)
    assert state.phase == READY
    stop(home)
    stop(home)
    assert not left_of(state)


def test_the_key_is_in_no_command_line_and_no_log(home, logs, fake):
    with attached(fake(), home, os.getpid(), logs) as engine:
        key = read_key(home)
        assert engine.api_key == key
        assert len(key) >= 32
        assert key not in repr(engine)
        assert not [process.pid for process in psutil.process_iter() if key in _command_of(process)]
        assert not [path for path in logs.iterdir() if key in path.read_text()]
        assert key not in (home / "state.json").read_text()
        assert home.stat().st_mode & 0o777 == 0o700
        assert (home / "key").stat().st_mode & 0o777 == 0o600
    first = key
    stop(home)
    assert attach(fake(), home, os.getpid(), logs).api_key != first


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_lease_alone_is_enough_to_keep_an_engine(home, logs, fake):
    with lease(home):
        assert leased(home)
    assert not leased(home)
