"""What a run is: its identity, and the plan that its first start commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from hybrid_batch.core.fingerprint import Plain, fingerprint
from hybrid_batch.core.inputs import Split
from hybrid_batch.core.manifest import FORMAT

LABELLING: Final = "labels"
"""``kind`` in the identity of a labelling; a run of the nightly job has none."""

RETRY: Final = "retry"
"""``kind`` in the identity of a retry, beside ``retry_of``: the run whose failed rows it answers, and which of them."""

ID_DIGITS: Final = 12
"""Digits of the fingerprint at the end of a run's id."""


@dataclass(frozen=True)
class Plan:
    """The first object of a run.

    ``identity`` is what determines the answers; its fingerprint is part of ``run_id``, so a run that would answer
    differently has another folder.  ``splits`` and ``shard_rows`` are fixed by the first start: a resumed run keeps
    them whatever its configuration says by then.  ``scorer`` is what the first start found to compute scores with
    (:func:`hybrid_batch.routers.scorer_entry`), empty for a labelling: an export that is made later is not taken.
    """

    run_id: str
    fingerprint: str
    identity: Mapping[str, Plain]
    splits: tuple[Split, ...]
    shard_rows: int
    created_at: str
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    scorer: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_labelling(self) -> bool:
        return self.identity.get("kind") == LABELLING

    @property
    def is_retry(self) -> bool:
        return self.identity.get("kind") == RETRY

    @property
    def is_of_a_job(self) -> bool:
        """Whether this is a run of queries, neither a labelling nor a retry of some of them."""
        return not self.is_labelling and not self.is_retry

    @property
    def retry_of(self) -> Mapping[str, Any] | None:
        """``run_id`` and ``fingerprint`` of the run whose rows a retry answers, and their ``errors``; else None."""
        found: Mapping[str, Any] | None = self.identity.get("retry_of")
        return found

    @property
    def input_format(self) -> str:
        return str(self.config["input"]["format"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` is the inverse."""
        return {
            "format": FORMAT,
            "run_id": self.run_id,
            "fingerprint": self.fingerprint,
            "identity": dict(self.identity),
            "splits": [split.to_list() for split in self.splits],
            "shard_rows": self.shard_rows,
            "created_at": self.created_at,
            "config": dict(self.config),
            "versions": dict(self.versions),
            "scorer": dict(self.scorer),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Raises ``ValueError`` for another format, ``KeyError`` for a missing field."""
        found = data.get("format") if isinstance(data, Mapping) else None
        if found != FORMAT:
            raise ValueError(f"the format is {found!r}, this version reads {FORMAT!r}")
        return cls(
            run_id=data["run_id"],
            fingerprint=data["fingerprint"],
            identity=data["identity"],
            splits=tuple(Split.from_list(values) for values in data["splits"]),
            shard_rows=data["shard_rows"],
            created_at=data["created_at"],
            config=data["config"],
            versions=data["versions"],
            scorer=data["scorer"],
        )


def run_id(name: str, date: str | None, identity: Mapping[str, Plain]) -> str:
    """``{name}-{date}-{12 digits of the identity's fingerprint}``, without the date if there is none."""
    return "-".join([name, *([date] if date else []), fingerprint(identity)[:ID_DIGITS]])
