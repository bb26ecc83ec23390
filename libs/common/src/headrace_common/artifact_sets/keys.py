"""Ed25519 keys as text, for settings and command lines."""

import base64
import binascii
import hashlib
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_KEY_BYTES: Final = 32
_KEY_ID_DIGITS: Final = 16
_PEM: Final = "-----BEGIN PUBLIC KEY-----"
_PEM_END: Final = "-----END PUBLIC KEY-----"


def generate_signing_key() -> Ed25519PrivateKey:
    """Make a new key."""
    return Ed25519PrivateKey.generate()


def signing_key_text(key: Ed25519PrivateKey) -> str:
    """Return the key's seed in base64, as META_SIGNING_KEY has it. A secret."""
    return base64.b64encode(key.private_bytes_raw()).decode()


def read_signing_key(text: str) -> Ed25519PrivateKey:
    """Read what `signing_key_text` wrote.

    Raises:
        ValueError: it is not 32 bytes in base64; the message does not repeat it.
    """
    return Ed25519PrivateKey.from_private_bytes(_key_bytes(text, "a signing key"))


def public_key_text(key: Ed25519PublicKey) -> str:
    """Return the public key in base64, as META_VERIFY_KEYS has it."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def read_public_keys(text: str) -> list[Ed25519PublicKey]:
    """Read public keys: base64 between commas or white space, or PEM blocks.

    Raises:
        ValueError: one of them is neither.
    """
    if _PEM in text:
        blocks = text.split(_PEM)[1:]
        return [_read_pem(_PEM + block.partition(_PEM_END)[0] + _PEM_END) for block in blocks]
    words = text.replace(",", " ").split()
    return [Ed25519PublicKey.from_public_bytes(_key_bytes(each, "a public key")) for each in words]


def key_id(key: Ed25519PublicKey) -> str:
    """Return the name of a key in signatures: the start of the public key's SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:_KEY_ID_DIGITS]


def _read_pem(block: str) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, Ed25519PublicKey):
        return key
    raise ValueError("the PEM block is no Ed25519 public key")


def _key_bytes(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"{what} is {_KEY_BYTES} bytes in base64")
    return raw
