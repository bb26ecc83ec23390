"""Cursors of lists that are ordered by creation: opaque to clients, checked when they return."""

import base64
import binascii
import json
from datetime import datetime

from headrace_common.db.storable import is_storable
from headrace_common.errors import BadRequestError


def make_cursor(created_at: datetime, item_id: str) -> str:
    """Return the cursor of the page after the item."""
    text = json.dumps([created_at.isoformat(), item_id])
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Return creation and id of the last item of the page before.

    Raises:
        BadRequestError: the cursor is not one of ours.
    """
    try:
        created_at, item_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        when = datetime.fromisoformat(created_at)
    except (ValueError, TypeError, binascii.Error):
        raise _foreign() from None
    if when.tzinfo is None or not isinstance(item_id, str) or not is_storable(item_id):
        raise _foreign()
    return when, item_id


def _foreign() -> BadRequestError:
    return BadRequestError("the cursor is not one that this API gave")
