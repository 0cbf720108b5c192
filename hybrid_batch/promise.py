"""From what a job asks for to the policy that splits its night; a promise becomes the thresholds calibrated for it."""

from __future__ import annotations

from hybrid_batch.calibrations import Record, lookup
from hybrid_batch.config import JobConfig
from hybrid_batch.core.routing import Policy, ThresholdPolicy, Thresholds
from hybrid_batch.routers import router_card


def policy_of(config: JobConfig) -> Policy:
    """What splits the night; of a promise, the threshold that was calibrated for it, or one for each group.

    Raises ``ConfigError`` with the command to run if the router was not calibrated for the promise.
    """
    if (policy := config.policy.to_policy()) is not None:
        return policy
    record = calibration_of(config)
    if record.by is None:
        return ThresholdPolicy(record.overall.threshold)
    return Thresholds(record.overall.threshold_micros, record.by, record.thresholds())


def calibration_of(config: JobConfig) -> Record:
    """The calibration behind a promise of quality.  Raises ``ConfigError`` as :func:`policy_of`."""
    asked = config.policy
    assert asked.max_drop_pct is not None
    card = router_card(config.router.path)
    told = config.input.columns.task is not None and card.reads_tasks
    return lookup(config.router.path, card.fingerprint, asked.max_drop_pct, asked.confidence, asked.by, told)
