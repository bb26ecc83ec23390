"""AES-128 in CBC, as HLS encrypts whole segments, decrypted as the bytes come."""

from collections.abc import Iterable, Iterator
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from headrace_gpu_preprocessor.video.errors import BadKeyError

KEY_BYTES: Final = 16


def decrypted(chunks: Iterable[bytes], key: bytes, iv: bytes) -> Iterator[bytes]:
    """Yield the plain bytes of a segment.

    Raises:
        BadKeyError: the key has another length, or the end is not padded as it must be.
    """
    if len(key) != KEY_BYTES:
        raise BadKeyError(f"the key has {len(key)} bytes, not {KEY_BYTES}")
    decryptor = Cipher(AES(key), CBC(iv)).decryptor()
    unpadder = PKCS7(AES.block_size).unpadder()
    try:
        for chunk in chunks:
            yield unpadder.update(decryptor.update(chunk))
        yield unpadder.update(decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise BadKeyError("the key does not open the segment") from error
