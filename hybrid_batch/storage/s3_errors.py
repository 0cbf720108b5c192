"""What botocore and pyarrow raise, as one sentence that names URL, cause and remedy.  Never a secret."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hybrid_batch.core.errors import StorageError
from hybrid_batch.storage.urls import split_s3

_KEYS = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)"
_REFUSED_KEYS = f"the credentials were refused: check {_KEYS}, the profile or the role"
_DENIED = "access denied: needs {right} on {arn}, and s3:ListBucket on the bucket (or the keys are wrong)"
_NO_BUCKET = "bucket {bucket!r} does not exist or is not visible at endpoint {endpoint}"
_UNREACHABLE = "endpoint {endpoint} cannot be reached: check AWS_ENDPOINT_URL, the network and the proxy"
_BUSY = "the store kept answering with errors (overloaded or broken); tried {attempts} times, run again later"
_NO_REGION_MATCH = "bucket {bucket!r} is in another region or behind another endpoint: set AWS_REGION"

_BY_CODE = {
    "NoSuchBucket": _NO_BUCKET,
    "NoSuchKey": "there is no such object",
    "404": "there is no such object",
    "AccessDenied": _DENIED,
    "403": _DENIED,
    "AllAccessDisabled": _DENIED,
    "InvalidAccessKeyId": _REFUSED_KEYS,
    "SignatureDoesNotMatch": _REFUSED_KEYS,
    "InvalidToken": _REFUSED_KEYS,
    "ExpiredToken": "the credentials have expired: get new ones, or use a role that renews itself",
    "TokenRefreshRequired": "the credentials have expired: get new ones, or use a role that renews itself",
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it by NTP",
    "PermanentRedirect": _NO_REGION_MATCH,
    "301": _NO_REGION_MATCH,
    "AuthorizationHeaderMalformed": _NO_REGION_MATCH,
    "IllegalLocationConstraintException": _NO_REGION_MATCH,
    "EntityTooLarge": "the object is larger than one put allows (5 GB): use more and smaller shards",
    "QuotaExceeded": "the quota of the bucket or user is used up: free space or raise it",
    "NotImplemented": "this server does not support conditional writes (If-None-Match), which commits need",
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
    "500": _BUSY,
    "503": _BUSY,
}
_BY_EXCEPTION = {
    "NoCredentialsError": f"no AWS credentials found: set {_KEYS}, AWS_PROFILE or a role",
    "PartialCredentialsError": f"the AWS credentials are incomplete: set {_KEYS}, AWS_PROFILE or a role",
    "ProfileNotFound": "the profile named by AWS_PROFILE is not in the AWS configuration files",
    "CredentialRetrievalError": "the AWS credentials could not be fetched: check the role or the process",
    "TokenRetrievalError": "the AWS sign-on token could not be fetched: log in again (`aws sso login`)",
    "UnauthorizedSSOTokenError": "the AWS sign-on has expired: log in again (`aws sso login`)",
    "SSOTokenLoadError": "there is no AWS sign-on: log in (`aws sso login`)",
    "EndpointConnectionError": _UNREACHABLE,
    "ConnectTimeoutError": _UNREACHABLE,
    "ProxyConnectionError": _UNREACHABLE,
    "SSLError": "the TLS certificate of endpoint {endpoint} is not trusted: check it, or set AWS_CA_BUNDLE",
    "ReadTimeoutError": "endpoint {endpoint} accepted the request and did not answer; tried {attempts} times",
    "ConnectionClosedError": "endpoint {endpoint} closes connections; tried {attempts} times",
    "InvalidRegionError": "AWS_REGION is not a region name",
}
# What the C++ client under pyarrow writes into its OSError.
_BY_ARROW_TEXT = {
    "NO_SUCH_BUCKET": _NO_BUCKET,
    "ACCESS_DENIED": _DENIED,
    "INVALID_ACCESS_KEY_ID": _REFUSED_KEYS,
    "SIGNATURE_DOES_NOT_MATCH": _REFUSED_KEYS,
    "EXPIRED_TOKEN": "the credentials have expired: open the file again",
    "NETWORK_CONNECTION": _UNREACHABLE,
    "SLOW_DOWN": _BUSY,
    "SERVICE_UNAVAILABLE": _BUSY,
    "INTERNAL_FAILURE": _BUSY,
    "HTTP status 5": _BUSY,
    "HTTP status 403": _DENIED,
    "HTTP status 301": _NO_REGION_MATCH,
}


@contextmanager
def s3_errors(url: str, right: str, action: str, endpoint: str = "", attempts: int = 0) -> Iterator[None]:
    """Turn botocore's exceptions and OSError into StorageError.  ``right``: the permission needed."""
    try:
        yield
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        bucket, key = split_s3(url)
        arn = f"arn:aws:s3:::{bucket}" + ("" if right == "s3:ListBucket" else f"/{key}")
        facts = {"endpoint": endpoint or "of this bucket", "attempts": attempts or "several"}
        why = sentence.format(bucket=bucket, right=right, arn=arn, **facts)
        raise StorageError(f"cannot {action} {url}: {why}{_detail(error)}") from error


def error_code(error: BaseException) -> str:
    """S3's code of a ClientError (``NoSuchKey``, ``412`` ...), ``""`` for anything else."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _sentence(error: Exception) -> str | None:
    """None for an exception that does not come from the storage libraries."""
    kind = type(error)
    for name in [base.__name__ for base in kind.__mro__]:
        if name in _BY_EXCEPTION:
            return _BY_EXCEPTION[name]
    if error_code(error):
        return _BY_CODE.get(error_code(error), "the store refused the request")
    if isinstance(error, FileNotFoundError):
        return "there is no such object"
    if isinstance(error, OSError):
        matches = [text for code, text in _BY_ARROW_TEXT.items() if code in str(error)]
        return matches[0] if matches else "the store could not be read"
    return "the storage client failed" if kind.__module__.startswith(("botocore", "pyarrow")) else None


def _detail(error: Exception) -> str:
    """The bare facts for an administrator: operation, code, status."""
    if code := error_code(error):
        response: dict[str, Any] = getattr(error, "response", {})
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        return f" [{getattr(error, 'operation_name', '')} {status} {code}]"
    if isinstance(error, OSError):
        code_in_text = re.search(r"AWS Error (\w+) during (\w+)", str(error))
        return f" [{code_in_text[2]} {code_in_text[1]}]" if code_in_text else f" [{type(error).__name__}]"
    return f" [{type(error).__name__}]"
