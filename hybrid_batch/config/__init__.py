"""The configuration of a run: closed, checked at construction, with messages that say what is allowed.

``sources`` reads and merges, ``job`` and ``tiers`` say what is allowed, ``messages`` explains what is wrong.
Nothing here imports Spark or a model library.
"""

from hybrid_batch.config.job import JobConfig
from hybrid_batch.config.loading import load_config, parse_config
from hybrid_batch.config.tiers import EndpointTier, ServerTier

__all__ = ["EndpointTier", "JobConfig", "ServerTier", "load_config", "parse_config"]
