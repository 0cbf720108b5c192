"""What a supervisor is told: plain values that travel as JSON.  Imports no recipe, so the supervisor stays light."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from hybrid_batch.engines.processes import ProcessId


@dataclass(frozen=True)
class LaunchPlan:
    """All that the supervisor needs to know, as plain values.

    ``command`` is the server's argument list in which ``{port}`` stands for the port; ``key_variable`` is the
    environment variable by which the server gets its key.  ``grace_s`` is the time between SIGTERM and SIGKILL.
    """

    engine_id: str
    fingerprint: str
    home: str
    owner: ProcessId
    command: tuple[str, ...]
    env: dict[str, str]
    key_variable: str
    model: str
    log_path: str
    start_timeout_s: float
    idle_timeout_s: float
    grace_s: float = 10.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LaunchPlan:
        fields = json.loads(text)
        owner = ProcessId(**fields.pop("owner"))
        return cls(owner=owner, command=tuple(fields.pop("command")), **fields)
