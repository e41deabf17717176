"""The object storages: how each is reached through fsspec, and what its errors mean.

The drivers are extras, imported when one is used. Each looks for credentials where its cloud's own programs do. Nothing
an error of theirs says is repeated, for it may quote a signed URL: the name of its class has to do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from looptap_collector.artifacts.store import ArtifactsUnavailable

_PART = 8 * 2**20


@dataclass(frozen=True)
class Cloud:
    """``upload`` are options of ``put_file`` that bound the memory which a large file takes (32 MiB or so)."""

    scheme: str
    bucket: str
    extra: str
    connect: Callable[[], Any]
    upload: Mapping[str, Any]
    credentials: str
    endpoint: str


def _s3() -> Any:
    from s3fs import S3FileSystem

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    config: dict[str, Any] = {}
    if endpoint:
        # Servers beside Amazon's have no host name for each bucket, and many do not know the newer checksums.
        config = {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    return S3FileSystem(endpoint_url=endpoint or None, config_kwargs=config, **_OWN)


def _azure() -> Any:
    from adlfs import AzureBlobFileSystem

    return AzureBlobFileSystem(**_OWN)


def _google() -> Any:
    # Not gcsfs.GCSFileSystem, which asks over gRPC for the kind of each bucket: an emulator makes it wait for minutes.
    from gcsfs.core import GCSFileSystem

    # As Google's own libraries have it: an emulator is spoken to without credentials.
    return GCSFileSystem(token="anon" if os.environ.get("STORAGE_EMULATOR_HOST") else None, **_OWN)


#: No listing is remembered, as other collectors write, too; and no connection is shared with other users of fsspec.
_OWN: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}

_S3 = Cloud(
    scheme="s3",
    bucket="bucket",
    extra="s3",
    connect=_s3,
    upload={"chunksize": _PART, "max_concurrency": 4},
    credentials="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or the role of the machine",
    endpoint="AWS_ENDPOINT_URL",
)
_AZURE = Cloud(
    scheme="az",
    bucket="container",
    extra="azure",
    connect=_azure,
    upload={"max_concurrency": 4},
    credentials="AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with a key, a SAS token or a login",
    endpoint="AZURE_STORAGE_CONNECTION_STRING",
)
_GOOGLE = Cloud(
    scheme="gs",
    bucket="bucket",
    extra="gcs",
    connect=_google,
    upload={"chunksize": _PART},
    credentials="GOOGLE_APPLICATION_CREDENTIALS, gcloud auth application-default login or the machine's account",
    endpoint="STORAGE_EMULATOR_HOST",
)

#: By the scheme of an address.
CLOUDS: dict[str, Cloud] = {"s3": _S3, "az": _AZURE, "abfs": _AZURE, "gs": _GOOGLE, "gcs": _GOOGLE}


def connect(cloud: Cloud, address: str) -> Any:
    """The fsspec file system of a cloud. Raises :class:`ArtifactsUnavailable`."""
    for logger in ("gcsfs", "azure", "s3fs"):
        # What they log of an error they raise as well; without a handler Python would print it.
        logging.getLogger(logger).addHandler(logging.NullHandler())
    try:
        return cloud.connect()
    except ModuleNotFoundError as error:
        raise ArtifactsUnavailable(f"{address} needs {error.name}: pip install 'looptap[{cloud.extra}]'") from None
    except ValueError as error:
        raise _refused(cloud, address, error) from None
    except Exception as error:  # noqa: BLE001 - raised in our own words
        raise explained(error, cloud, address) from None


def explained(error: Exception, cloud: Cloud, address: str) -> ArtifactsUnavailable:
    """One line on an error of a driver: what it means, and what to look at."""
    if isinstance(error, FileNotFoundError):
        return ArtifactsUnavailable(f"{address}: there is no such {cloud.bucket}; make it first, looptap makes none")
    if _is_refusal(error):
        return _refused(cloud, address, error)
    return ArtifactsUnavailable(
        f"{address} cannot be reached ({type(error).__name__}); check the network and {cloud.endpoint}"
    )


def _refused(cloud: Cloud, address: str, error: Exception) -> ArtifactsUnavailable:
    return ArtifactsUnavailable(
        f"{address}: the credentials are missing or refused ({type(error).__name__}); set {cloud.credentials}"
    )


def _is_refusal(error: Exception) -> bool:
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    if isinstance(error, PermissionError) or str(status) in ("401", "403"):
        return True
    return any(word in type(error).__name__ for word in ("Credential", "Authentication", "Signing", "Refresh", "Token"))
