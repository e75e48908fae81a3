"""How many bytes a body may have, by its address."""

from dataclasses import dataclass

from django.conf import settings

from inference.errors import BodyTooLarge
from inference.protocols import spoken


@dataclass(frozen=True)
class Limit:
    """Of a body's bytes, also after decompression."""

    bytes: int
    setting: str = ""  # that raises it


def limit(path: str) -> Limit:
    """Of a body that is sent to an address of the API's."""
    name = "VELO_MAX_INPUTS_BYTES" if spoken.asks(path) else "VELO_MAX_BODY_BYTES"
    return Limit(getattr(settings, name), name)


def of_others() -> Limit:
    """Of a body that is sent anywhere else, for example to the admin."""
    return Limit(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def too_large(most: Limit) -> BodyTooLarge:
    """The error for a body with more bytes."""
    cure = f", or raise {most.setting} on the server" if most.setting else ""
    return BodyTooLarge(f"The body is larger than {most.bytes} bytes. Send less{cure}.")
