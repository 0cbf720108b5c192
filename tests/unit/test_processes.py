"""A process is known by when it started, whatever the clock says."""

from __future__ import annotations

import os
import time

import psutil

from hybrid_batch.engines.processes import ProcessId


def test_a_start_is_counted_from_the_machines_own():
    me = ProcessId.of(os.getpid())
    up = time.time() - psutil.boot_time()
    assert 0 < me.created <= up + 1
    assert me.alive()


def test_a_later_process_of_the_same_number_is_another():
    me = ProcessId.of(os.getpid())
    assert not ProcessId(me.pid, me.created - 60).alive()
