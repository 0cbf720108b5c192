"""One Spark session and one policy on skips for the whole suite."""

from __future__ import annotations

import os

import pytest

NOTHING_SKIPPED = "HYBRID_BATCH_NOTHING_SKIPPED"
"""Set where every test must run (CI): a skipped test then fails the session."""

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and os.environ.get(NOTHING_SKIPPED) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped and os.environ.get(NOTHING_SKIPPED):
        terminalreporter.write_line(f"{NOTHING_SKIPPED} is set and {len(_skipped)} tests were skipped", red=True)
