"""The registry of cameras: what jobs can name instead of a URL, and where it is kept."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from headrace_common import audit
from headrace_common.contracts.cctv import CameraId, ClipSeconds, StreamUrl
from headrace_common.contracts.regions import Polygons, RoadRegion
from headrace_common.cursors import make_cursor, read_cursor
from headrace_common.db import Camera, Database, is_storable
from headrace_common.errors import ConflictError
from headrace_common.jobs.cameras import UnknownCameraError, registered_camera
from headrace_common.telemetry.secrets import REDACTED, shown_url

#: Of a clip, for cameras that were registered without saying it.
DEFAULT_SECONDS: Final = 20.0
MAX_DESCRIPTION_CHARACTERS: Final = 500


class CameraExistsError(ConflictError):
    """A camera of that name is registered."""

    code = "camera_exists"
    title = "Camera exists"


def _with_host(url: str) -> str:
    """Check that a URL names a host, and a port only if it is one.

    Whether that host may be reached is decided where it is: its address may change until then.
    """
    parts = urlsplit(url)  # raises ValueError for half an IPv6 address
    if not parts.hostname or any(letter.isspace() for letter in url):
        raise ValueError("must name a host")
    if parts.port == 0:  # raises ValueError for one that is no number
        raise ValueError("must have a port above 0")
    return url


def _whole(url: Any) -> Any:
    """Check that a URL is not one as we show it, sent back."""
    if isinstance(url, str) and REDACTED in url:
        raise ValueError(f"has {REDACTED}, as URLs are shown; give it whole, or leave it out")
    return url


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("must not contain U+0000 or half of a surrogate pair")
    return text


CameraUrl = Annotated[StreamUrl, AfterValidator(_with_host)]
_KeptUrl = Annotated[
    CameraUrl,
    # First: where a host is, the brackets make it no URL at all.
    BeforeValidator(_whole),
    Field(
        description="HLS playlist, http:// or https://. Shown without what may let one in",
        examples=["https://cam.example.org/L010146/live.m3u8"],
    ),
]
Description = Annotated[
    str,
    Field(max_length=MAX_DESCRIPTION_CHARACTERS, description="For people"),
    AfterValidator(_storable),
]


class _Wishes(BaseModel):
    """What may be said of a camera beside its name and its URL."""

    model_config = ConfigDict(extra="forbid")

    region: RoadRegion | None = None
    seconds: ClipSeconds | None = Field(
        default=None,
        description=f"Of a clip, where the job does not say; null: {DEFAULT_SECONDS:g}",
        examples=[10],
    )
    description: Description | None = None


class NewCamera(_Wishes):
    """A camera to be registered."""

    name: CameraId = Field(description="The cctvId of its jobs", examples=["L010146"])
    hls: _KeptUrl


class CameraChanges(_Wishes):
    """Changes of a camera, after RFC 7396: what is absent stays, what is null goes."""

    hls: _KeptUrl | None = None

    @field_validator("hls")
    @classmethod
    def _stays(cls, url: str | None) -> str | None:
        if url is None:
            raise ValueError("a camera has one: give another, or leave it out")
        return url


class CameraView(BaseModel):
    """A camera."""

    model_config = ConfigDict(frozen=True)

    name: str
    hls: str = Field(description="Without user, password and the values of its parameters")
    region: Polygons | None = Field(
        description="Where the road is; null: as the preprocessor's CAMERA_REGIONS_FILE says"
    )
    seconds: float
    description: str | None
    created_by: str | None = Field(description="Id of the API key")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Camera) -> "CameraView":
        """Show a row."""
        return cls(
            name=row.name,
            hls=shown_url(row.hls),
            region=row.region,
            seconds=row.seconds,
            description=row.description,
            created_by=row.created_by,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@dataclass(frozen=True)
class CameraPage:
    """Some cameras, newest first, and the cursor of the next page if there is one."""

    cameras: list[CameraView]
    next_cursor: str | None


class Registry:
    """The cameras. Every method blocks on the database; who changes something is noted."""

    def __init__(self, database: Database) -> None:
        """Keep them in `database`."""
        self._database = database

    def add(self, new: NewCamera, *, actor: str, key_id: str | None) -> CameraView:
        """Register a camera.

        Args:
            new: the camera.
            actor: see `headrace_common.audit`.
            key_id: of the API key that it is registered with.

        Raises:
            CameraExistsError: there is one of that name.
        """
        statement = (
            insert(Camera)
            .values(
                name=new.name,
                hls=new.hls,
                region=new.region,
                seconds=new.seconds or DEFAULT_SECONDS,
                description=new.description,
                created_by=key_id,
            )
            .on_conflict_do_nothing()
            .returning(Camera)
        )
        with self._database.begin() as session:
            row = session.scalar(statement)
            if row is None:
                raise CameraExistsError(f"there is a camera {new.name!r} already")
            _note(session, actor, "create", new.name, new)
            return CameraView.of(row)

    def find(self, name: str) -> CameraView:
        """Return a camera.

        Raises:
            UnknownCameraError: there is none of that name.
        """
        with self._database.begin() as session:
            return CameraView.of(registered_camera(session, name))

    def page(self, *, limit: int, cursor: str | None) -> CameraPage:
        """Return up to `limit` cameras, newest first, from where `cursor` left off.

        Raises:
            BadRequestError: the cursor is not one of ours.
        """
        query = select(Camera).order_by(Camera.created_at.desc(), Camera.name.desc())
        if cursor is not None:
            after = tuple_(*read_cursor(cursor))
            query = query.where(tuple_(Camera.created_at, Camera.name) < after)
        with self._database.begin() as session:
            views = [CameraView.of(row) for row in session.scalars(query.limit(limit + 1))]
        page = views[:limit]
        more = len(views) > limit
        return CameraPage(page, make_cursor(page[-1].created_at, page[-1].name) if more else None)

    def change(self, name: str, changes: CameraChanges, *, actor: str) -> CameraView:
        """Change a camera; jobs that exist stay as they are.

        Raises:
            UnknownCameraError: there is none of that name.
        """
        given = changes.model_dump(exclude_unset=True)
        if "seconds" in given:
            given["seconds"] = given["seconds"] or DEFAULT_SECONDS
        statement = (
            update(Camera)
            .where(Camera.name == name)
            .values(**given, updated_at=func.clock_timestamp())
            .returning(Camera)
        )
        with self._database.begin() as session:
            row = session.scalar(statement)
            if row is None:
                raise UnknownCameraError(name)
            _note(session, actor, "change", name, changes)
            return CameraView.of(row)

    def remove(self, name: str, *, actor: str) -> None:
        """Remove a camera; its jobs stay.

        Raises:
            UnknownCameraError: there is none of that name.
        """
        statement = delete(Camera).where(Camera.name == name).returning(Camera.name)
        with self._database.begin() as session:
            if session.scalar(statement) is None:
                raise UnknownCameraError(name)
            _note(session, actor, "remove", name)


def _note(session: Session, actor: str, verb: str, name: str, told: _Wishes | None = None) -> None:
    """Note a deed, with what was told: of a region that it was, of a URL what may be shown."""
    details = {} if told is None else told.model_dump(exclude_unset=True, exclude={"name"})
    if details.get("region") is not None:
        details["region"] = "given"
    if "hls" in details:
        details["hls"] = shown_url(details["hls"])
    audit.record(session, actor=actor, action=f"camera.{verb}", target=f"camera:{name}", **details)
