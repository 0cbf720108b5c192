"""From what a job asks for to the policy that splits its night; a promise becomes the threshold calibrated for it."""

from __future__ import annotations

from hybrid_batch.calibrations import Record, lookup
from hybrid_batch.config import JobConfig
from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.routing import Policy, ThresholdPolicy
from hybrid_batch.engines.router_card import read_card
from hybrid_batch.storage import join, normalise, open_store


def policy_of(config: JobConfig) -> Policy:
    """What splits the night; of a promise, the threshold that was calibrated for it.

    Raises ``ConfigError`` with the command to run if the router was not calibrated for the promise.
    """
    return config.policy.to_policy() or ThresholdPolicy(calibration_of(config).overall.threshold)


def calibration_of(config: JobConfig) -> Record:
    """The calibration behind a promise of quality.  Raises ``ConfigError`` as :func:`policy_of`."""
    asked = config.policy
    assert asked.max_drop_pct is not None
    fingerprint = router_fingerprint(config.router.path)
    return lookup(config.router.path, fingerprint, asked.max_drop_pct, asked.confidence, with_tasks=False)


def router_fingerprint(path: str) -> str:
    """Fingerprint of the router's card, which lists the SHA-256 of every file of the artefact.

    Raises ``ConfigError`` if there is no card, or one that this version cannot read.
    """
    folder = normalise(path)
    card = open_store(folder).read_if_present(join(folder, "router.json"))
    if card is None:
        raise ConfigError(f"router.path: {folder} holds no router.json; it must be the folder of a trained router")
    return read_card(card).fingerprint
