"""Where the road is in a camera's picture: polygons, in shares of its width and height."""

import json
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

Point = tuple[float, float]
Polygon = tuple[Point, ...]
Polygons = tuple[Polygon, ...]

MAX_POLYGONS: Final = 32
MAX_POINTS: Final = 200
#: Of a region that travels with a job: it is in the job's entry, and in each report on it.
MAX_REGION_CHARACTERS: Final = 16_384
#: What a producer may write it with: blanks, and numbers at a length of its own.
_MOST_READ_CHARACTERS: Final = 4 * MAX_REGION_CHARACTERS
#: Characters of a faulty point that are repeated.
_LONGEST_SHOWN: Final = 100
#: In shares of the picture's; less is a line.
_LEAST_AREA: Final = 1e-6


class RegionError(ValueError):
    """A region that is none; the message says why."""


def read_polygons(value: Any) -> Polygons:
    """Read a region from JSON: a list of polygons, each a list of [x, y] from the upper left.

    Raises:
        RegionError: it is none; the message names the polygon.
    """
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_POLYGONS:
        raise RegionError(f"must be a list of 1 to {MAX_POLYGONS} polygons")
    return tuple(_polygon(number, points) for number, points in enumerate(value))


def region_text(polygons: Polygons) -> str:
    """Return a region as it is written to a stream; read again, it is written the same."""
    return json.dumps(polygons, separators=(",", ":"))


def _travelling(value: Any) -> Polygons:
    """Read a region that can travel with a job.

    Raises:
        RegionError: it is none, or too long.
    """
    polygons = read_polygons(value)
    if len(region_text(polygons)) > MAX_REGION_CHARACTERS:
        raise RegionError(f"must have at most {MAX_REGION_CHARACTERS} characters as JSON")
    return polygons


def _from_field(value: Any) -> Polygons:
    """Read what a field of a stream has, which is text, or what we made an entry of.

    Raises:
        RegionError: it is no region, or too long.
    """
    if not isinstance(value, str):
        return _travelling(value)
    if len(value) > _MOST_READ_CHARACTERS:
        raise RegionError(f"must have at most {MAX_REGION_CHARACTERS} characters as JSON")
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        raise RegionError("must be JSON: a list of polygons") from None
    return _travelling(found)


#: A region in a JSON document.
RoadRegion = Annotated[
    Polygons,
    BeforeValidator(_travelling),
    Field(
        description="Where the road is: polygons of points x, y, from 0 to 1 of the picture's "
        "width and height, from its upper left corner",
        examples=[[[[0.1, 0.95], [0.45, 0.3], [0.55, 0.3], [0.9, 0.95]]]],
    ),
]
#: A region in a flat field: the same as text.
RegionText = Annotated[Polygons, BeforeValidator(_from_field)]


def _polygon(number: int, points: Any) -> Polygon:
    if not isinstance(points, list | tuple) or not 3 <= len(points) <= MAX_POINTS:
        raise RegionError(f"polygon {number}: needs 3 to {MAX_POINTS} points")
    polygon = tuple(_point(number, point) for point in points)
    if abs(_area(polygon)) < _LEAST_AREA:
        raise RegionError(f"polygon {number}: has no area")
    return polygon


def _point(number: int, point: Any) -> Point:
    if not isinstance(point, list | tuple) or len(point) != 2:
        raise RegionError(f"polygon {number}: a point must be [x, y]")
    if not all(_is_share(value) for value in point):
        raise RegionError(f"polygon {number}: {_shown(point)} is not within 0 to 1")
    return float(point[0]), float(point[1])


def _is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1; JSON's true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _shown(point: Any) -> str:
    """Return what was given, shortened; Python refuses to write very long integers out."""
    try:
        return repr(point)[:_LONGEST_SHOWN]
    except ValueError:
        return "a point"


def _area(polygon: Polygon) -> float:
    """Return the area by the shoelace formula, with a sign."""
    following = (*polygon[1:], polygon[0])
    pairs = zip(polygon, following, strict=True)
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs) / 2
