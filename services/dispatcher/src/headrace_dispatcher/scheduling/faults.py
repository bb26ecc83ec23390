"""What is wrong with a request on schedules, field by field."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError

from headrace_common.errors import UnprocessableError

#: Where FastAPI found a value; of no use to whoever wrote the body.
_PLACES: Final = frozenset({"body", "query", "path"})
#: A field that takes one of several models: pydantic names the model after it.
_UNION: Final = "trigger"
#: Pydantic's name of a body that cannot be read; its place is a number of characters.
_NO_JSON: Final = "json_invalid"


@dataclass(frozen=True)
class Fault:
    """What is wrong with one field; `field` is dotted, `trigger.expression`."""

    field: str
    message: str


class InvalidFieldsError(UnprocessableError):
    """Fields of a request say what cannot be. The answer has them as `errors`."""

    code = "invalid_request"
    title = "Invalid request"

    def __init__(self, *faults: Fault) -> None:
        """Tell all of `faults`."""
        told = [{"field": fault.field, "message": fault.message} for fault in faults]
        detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        super().__init__(detail, errors=told)


class FieldRoute(APIRoute):
    """A route that names fields as its body does: `trigger.expression`, not more, not less."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()

        async def handle_naming_fields(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise InvalidFieldsError(*_faults(error.errors())) from None

        return handle_naming_fields


@contextmanager
def faults_below(field: str) -> Iterator[None]:
    """Tell what a model says against a value as faults of `field`, or of what is in it.

    Raises:
        InvalidFieldsError: it says something.
    """
    try:
        yield
    except ValidationError as error:
        raise InvalidFieldsError(
            *(
                Fault(".".join(filter(None, (field, fault.field))), fault.message)
                for fault in _faults(error.errors())
            )
        ) from None


def _faults(errors: Sequence[Any]) -> list[Fault]:
    return [
        Fault(_field(error["type"], error["loc"]), error["msg"].removeprefix("Value error, "))
        for error in errors
    ]


def _field(kind: str, place: Sequence[str | int]) -> str:
    if kind == _NO_JSON:
        return "body"
    parts = [str(part) for part in place]
    if len(parts) > 1 and parts[0] in _PLACES:
        del parts[0]
    if len(parts) > 1 and parts[0] == _UNION:
        del parts[1]
    return ".".join(parts)
