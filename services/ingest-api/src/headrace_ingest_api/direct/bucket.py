"""What direct uploads ask of S3. Every method blocks."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from headrace_common.storage import S3Location
from headrace_ingest_api.direct.errors import PartsMissingError
from headrace_ingest_api.direct.layout import Layout, StoredPart
from headrace_ingest_api.direct.wire import PartUrl
from headrace_ingest_api.objects import (
    ObjectMissingError,
    StorageUnavailableError,
    s3_error_code,
    storage_errors,
)
from headrace_ingest_api.ranged import S3File

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: What a file is hashed by: so much of it is in memory.
_HASHED_BYTES: Final = 4 * 1024 * 1024
_REFUSED_PARTS: Final = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})


class DirectBucket:
    """Multipart uploads that others send the parts of."""

    def __init__(self, client: "S3Client", signing: "S3Client", *, url_seconds: int) -> None:
        """Make it.

        Args:
            client: calls S3.
            signing: signs URLs with the address by which clients reach S3.
            url_seconds: how long a URL is good for.
        """
        self._client = client
        self._signing = signing
        self._url_seconds = url_seconds

    def begin(self, location: S3Location, content_type: str) -> str:
        """Begin a multipart upload and return S3's id of it."""
        with storage_errors("begin direct"):
            begun = self._client.create_multipart_upload(
                Bucket=location.bucket, Key=location.key, ContentType=content_type
            )
        return begun["UploadId"]

    def sign(
        self,
        location: S3Location,
        upload_id: str,
        number: int,
        *,
        layout: Layout,
        md5: str | None,
        until: datetime,
    ) -> PartUrl:
        """Sign the URL of a part; its length and its MD5 are signed along.

        Args:
            location: of the object.
            upload_id: S3's.
            number: of the part.
            layout: of the file.
            md5: hex, of the part's bytes, if its sender told it.
            until: when the upload expires, and so no URL is good for longer.
        """
        now = datetime.now(UTC)
        seconds = max(1, min(self._url_seconds, int((until - now).total_seconds())))
        size = layout.bytes_of(number)
        digest = base64.b64encode(bytes.fromhex(md5)).decode() if md5 else None
        url = self._signing.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": location.bucket,
                "Key": location.key,
                "UploadId": upload_id,
                "PartNumber": number,
                "ContentLength": size,
                **({"ContentMD5": digest} if digest else {}),
            },
            ExpiresIn=seconds,
        )
        return PartUrl(
            number=number,
            size=size,
            url=url,
            headers={"Content-MD5": digest} if digest else {},
            expires_at=now + timedelta(seconds=seconds),
        )

    def parts(self, location: S3Location, upload_id: str) -> list[StoredPart] | None:
        """Return the parts that S3 has, older first; None if it knows no such upload."""
        pages = self._client.get_paginator("list_parts").paginate(
            Bucket=location.bucket, Key=location.key, UploadId=upload_id
        )
        try:
            with storage_errors("list parts"):
                listed = [part for page in pages for part in page.get("Parts", [])]
        except ObjectMissingError:
            return None
        listed.sort(key=lambda part: part["LastModified"])
        return [
            StoredPart(part["PartNumber"], part["Size"], part["ETag"].strip('"')) for part in listed
        ]

    def complete(self, location: S3Location, upload_id: str, parts: Sequence[StoredPart]) -> None:
        """Make the object of its parts.

        An upload that is gone is left to whoever looks at the object next: an earlier call may
        have done this and not heard of it.

        Raises:
            PartsMissingError: a part was replaced meanwhile.
        """
        chosen = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        try:
            with storage_errors("complete direct"):
                self._client.complete_multipart_upload(
                    Bucket=location.bucket,
                    Key=location.key,
                    UploadId=upload_id,
                    MultipartUpload={"Parts": chosen},  # type: ignore[typeddict-item]  # as it is
                )
        except ObjectMissingError:
            return
        except StorageUnavailableError as error:
            cause = error.__cause__
            if isinstance(cause, ClientError) and s3_error_code(cause) in _REFUSED_PARTS:
                raise PartsMissingError(
                    "S3 does not take these parts; ask for them again"
                ) from error
            raise

    def size(self, location: S3Location) -> int | None:
        """Return the bytes of the object; None if there is none."""
        try:
            with storage_errors("head"):
                answer = self._client.head_object(Bucket=location.bucket, Key=location.key)
        except ObjectMissingError:
            return None
        return answer["ContentLength"]

    def head(self, location: S3Location, size: int, most: int) -> bytes:
        """Return the first bytes of the object, at most `most`."""
        return self.file(location, size).fetch(0, min(size, most))

    def file(self, location: S3Location, size: int) -> S3File:
        """Return the object as a file that is read in ranges."""
        return S3File(self._client, location, size)

    def sha256(self, location: S3Location, size: int) -> str:
        """Read the object once, in bounded memory, and return its hash in hex."""
        file, digest = self.file(location, size), hashlib.sha256()
        for start in range(0, size, _HASHED_BYTES):
            digest.update(file.fetch(start, min(_HASHED_BYTES, size - start)))
        return digest.hexdigest()
