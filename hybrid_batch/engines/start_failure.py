"""Why a server never became ready, read from the end of its log.  Pure: text in, text out."""

from __future__ import annotations

import re
import signal

_PREFIXES = re.compile(
    r"^(?:\x1b\[[0-9;]*m)*(?:\([\w .:/-]+ pid=\d+\)(?:\x1b\[[0-9;]*m)* )?"
    r"(?:(?:ERROR|WARNING|INFO|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d (?:\.{3})?\[[^\]]*\] ?)?"
)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Exit|Interrupt)): (?P<text>\S.*)")
_USAGE = re.compile(r"^\S*: error: (?P<text>.+)")
_CONSEQUENCES = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "EngineCore failed to start",
    "cancelled",
)
_PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)
_MODULE_MISSING = re.compile(r"No module named '?(?P<module>[\w.]+)'?")


def port_was_taken(log: str) -> bool:
    return _PORT_TAKEN.search(log) is not None


def cause_of_failure(log: str, status: int, log_path: str) -> str:
    """One line that says why, from ``log``; ``status`` is the exit status, negative for a signal."""
    return f"{_cause(log, status)} (exit status {status}; log: {log_path})"


def _cause(log: str, status: int) -> str:
    lines = [_PREFIXES.sub("", line).strip() for line in log.splitlines() if not line.startswith("[supervisor]")]
    usage = [match["text"] for match in map(_USAGE.match, lines) if match]
    if usage:
        return usage[-1]
    exceptions = [line for line in lines if _EXCEPTION.match(line)]
    roots = [line for line in exceptions if not any(word in line for word in _CONSEQUENCES)]
    if roots:
        return _explained(roots[-1])
    if status == -signal.SIGKILL:
        return "the server was killed by SIGKILL while it loaded, most likely for lack of memory"
    spoken = [line for line in lines if line]
    return spoken[-1] if spoken else "the server ended without a word"


def _explained(line: str) -> str:
    missing = _MODULE_MISSING.search(line)
    if missing and missing["module"].split(".")[0] == "vllm":
        return f"{line}: vLLM is not installed for this interpreter; set the tier's `python` to one that has it"
    return line
