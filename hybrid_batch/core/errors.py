"""One exception tree.

::

    HybridBatchError                 exit 1   base of all, never raised itself
    ├── ConfigError                  exit 2   a configuration value; names field, value, what is allowed
    ├── InputError                   exit 2   a query file; names file, column and row
    ├── RunConflictError             exit 2   a folder that belongs to another run
    ├── RowErrorRateError            exit 4   the run finished, too many of its rows did not
    └── InfrastructureError          exit 3   something outside the job failed; running again may help
        ├── StorageError                      a bucket, folder or object
        ├── SparkError                        Spark could not start or lost the job
        └── EngineError                       a model engine
            ├── EngineStartError              it never became ready (wrong model, no memory, no GPU)
            ├── EngineDiedError               it was ready and is gone, or stopped answering
            └── EndpointError                 a remote endpoint refuses all requests (key, model name, quota)
"""


class HybridBatchError(Exception):
    """Base of everything this package raises on purpose.  ``exit_code`` is what a scheduler sees."""

    exit_code = 1


class ConfigError(HybridBatchError):
    """A configuration that cannot work."""

    exit_code = 2


class InputError(HybridBatchError):
    """Queries that cannot be read, or that are not what the configuration says."""

    exit_code = 2


class RunConflictError(HybridBatchError):
    """The run's folder already holds something else."""

    exit_code = 2


class RowErrorRateError(HybridBatchError):
    """More rows failed than the run allows; all results are committed."""

    exit_code = 4


class InfrastructureError(HybridBatchError):
    """Something outside the job failed; the same command resumes the run."""

    exit_code = 3


class StorageError(InfrastructureError):
    """A bucket, folder or object could not be reached, read or written."""


class SparkError(InfrastructureError):
    """Spark could not start, or gave a job up."""


class EngineError(InfrastructureError):
    """A model engine failed as a whole (not one row)."""


class EngineStartError(EngineError):
    """An engine never became ready."""


class EngineDiedError(EngineError):
    """An engine was ready and is gone, or accepts requests and answers none."""


class EndpointError(EngineError):
    """A remote endpoint refuses every request."""
