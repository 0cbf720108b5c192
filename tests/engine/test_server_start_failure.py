"""What one reads first when an engine cannot start is the cause."""

from __future__ import annotations

import os
import subprocess
import sys
import venv

import pytest

from hybrid_batch.core.errors import ConfigError, EngineStartError
from hybrid_batch.engines.base import ServerRecipe
from hybrid_batch.engines.server_state import read_state
from hybrid_batch.engines.vllm_server import attach


def test_unknown_flag(home, logs, fake):
    with pytest.raises(EngineStartError, match=r"^tier small, .*unrecognized arguments: --no-such-flag=1 \(exit"):
        attach(fake(no_such_flag=1), home, os.getpid(), logs)


def test_the_servers_own_words_and_the_log(home, logs, fake):
    with pytest.raises(EngineStartError, match="ValueError: no such weights") as failure:
        attach(fake(fail_start="no such weights"), home, os.getpid(), logs)
    state = read_state(home)
    assert state is not None
    assert state.log_path in str(failure.value).splitlines()[0]


def test_every_caller_that_waited_hears_the_cause(home, logs):
    code = f"""
import os
from pathlib import Path
from hybrid_batch.core.errors import EngineStartError
from hybrid_batch.engines.base import ServerRecipe
from hybrid_batch.engines.vllm_server import attach
flags = (("fail_start", "no such weights"), ("start_seconds", 3.0))
recipe = ServerRecipe(tier="small", model="m", server="fake", engine_args=flags, start_timeout_s=60.0)
try:
    attach(recipe, Path({str(home)!r}), {os.getpid()}, Path({str(logs)!r}))
except EngineStartError as error:
    print(error)
"""
    callers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    heard = [caller.communicate(timeout=120)[0] for caller in callers]
    assert all("no such weights" in text for text in heard)


def test_a_port_that_stays_taken_is_given_up(home, logs, fake):
    with pytest.raises(EngineStartError, match="address already in use"):
        attach(fake(fail_start="[Errno 98] address already in use"), home, os.getpid(), logs)
    state = read_state(home)
    assert state is not None
    with open(state.log_path) as log:
        assert log.read().count("was taken in between") == 4


def test_start_timeout(home, logs, fake):
    with pytest.raises(EngineStartError, match="not ready within start_timeout_s = 1;"):
        attach(fake(start_seconds=3600, recipe={"start_timeout_s": 1.0}), home, os.getpid(), logs)


def test_missing_model_folder(home, logs, tmp_path):
    recipe = ServerRecipe(tier="large", model=str(tmp_path / "nowhere"))
    with pytest.raises(EngineStartError, match=r"^tier large: model folder .*nowhere does not exist on "):
        attach(recipe, home, os.getpid(), logs)
    with pytest.raises(EngineStartError, match=r"holds no config\.json"):
        attach(ServerRecipe(tier="large", model=str(tmp_path)), home, os.getpid(), logs)


def test_an_interpreter_without_vllm(home, logs, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    venv.create(tmp_path / "bare")
    python = str(tmp_path / "bare" / "bin" / "python")
    recipe = ServerRecipe(tier="small", model=str(tmp_path), python=python, start_timeout_s=60.0)
    with pytest.raises(EngineStartError, match="vLLM is not installed for this interpreter"):
        attach(recipe, home, os.getpid(), logs)


def test_an_interpreter_that_is_missing(home, logs, fake):
    with pytest.raises(EngineStartError, match="/no/such/python"):
        attach(fake(recipe={"python": "/no/such/python"}), home, os.getpid(), logs)


def test_flags_that_open_the_server_are_refused_before_anything_starts(home, logs, fake):
    with pytest.raises(ConfigError, match=r"tiers\.small\.engine_args\.host = '0\.0\.0\.0'"):
        attach(fake(host="0.0.0.0"), home, os.getpid(), logs)
    assert not home.exists()


def test_an_owner_that_does_not_exist(home, logs, fake, owner):
    owner.kill()
    owner.wait()
    with pytest.raises(EngineStartError, match=f"owner_pid = {owner.pid}"):
        attach(fake(), home, owner.pid, logs)
