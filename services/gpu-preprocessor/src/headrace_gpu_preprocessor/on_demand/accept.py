"""What a client wants back: JSON, or the drawn picture."""

from typing import Final

JSON: Final = "application/json"
JPEG: Final = "image/jpeg"


def wants_picture(accept: str) -> bool:
    """Whether an Accept header prefers a JPEG picture to JSON; in doubt it does not.

    Args:
        accept: the header; empty for none.
    """
    return _quality(accept, JPEG) > _quality(accept, JSON)


def _quality(accept: str, kind: str) -> float:
    """Return the weight of a media type by the most exact range that has it (RFC 9110, 12.5.1)."""
    wanted = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        wanted[name] = next((_number(p[2:]) for p in parameters if p.startswith("q=")), 1.0)
    family = kind.partition("/")[0]
    return next((wanted[name] for name in (kind, f"{family}/*", "*/*") if name in wanted), 0.0)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0
