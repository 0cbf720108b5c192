"""Why a server never became ready, read from the end of its log.  Pure: text in, text out."""

from __future__ import annotations

import re
import signal

_PREFIXES = re.compile(
    r"^(?:\x1b\[[0-9;]*m)*(?:\([\w .:/-]+ pid=\d+\)(?:\x1b\[[0-9;]*m)* )?"
    r"(?:(?:ERROR|WARNING|INFO|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d (?:\.{3})?\[[^\]]*\] ?)?"
)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?(?P<brief>(?:[A-Z]\w*(?:Error|Exception|Exit|Interrupt)|error): \S.*)")
_USAGE = re.compile(r"^\S*: error: (?P<text>.+)")
_CONSEQUENCES = (
    "Engine core initialization failed",
    "WorkerProc initialization failed",
    "EngineCore failed to start",
    "cancelled",
)
_PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)
_MODULE_MISSING = re.compile(r"No module named '?(?P<module>[\w.]+)'?")

_DAMAGED = re.compile(r"unpack requires a buffer|SafetensorError|HeaderTooLarge|InvalidHeader|MetadataIncomplete")


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
    found = [(at, match["brief"]) for at, line in enumerate(lines) if (match := _EXCEPTION.match(line))]
    roots = [(at, brief) for at, brief in found if not any(word in brief for word in _CONSEQUENCES)]
    if roots:
        at, brief = roots[-1]
        return _explained(brief, next(iter(lines[at + 1 :]), ""))
    if status == -signal.SIGKILL:
        return "the server was killed by SIGKILL while it loaded, most likely for lack of memory"
    spoken = [line for line in lines if line]
    return spoken[-1] if spoken else "the server ended without a word"


def _explained(line: str, following: str) -> str:
    """``line`` with what it leaves out: the sentence that pydantic puts below it, or what to do about it."""
    if "validation error" in line and following:
        return following.removeprefix("Value error, ")
    missing = _MODULE_MISSING.search(line)
    if missing and missing["module"].split(".")[0] == "vllm":
        return f"{line}: vLLM is not installed for this interpreter; set the tier's `python` to one that has it"
    if _DAMAGED.search(line):
        return f"{line}: a weight file is cut off or damaged"
    return line
