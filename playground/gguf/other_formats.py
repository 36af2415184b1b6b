"""Says what a file is that was taken for a GGUF file, by its first bytes."""

from __future__ import annotations

import re
from typing import Final

from playground.errors import BadModelFile

_DOWNLOAD_AGAIN: Final = "Download the model itself: the address may need a login, or lead to a page about the file."
_CHOOSE_GGUF: Final = "Choose the GGUF file of the model."
_UNPACK: Final = "Unpack it, and choose the .gguf file that is in it."

# First bytes, what they are of, and what to do. The first row that fits counts.
_FORMATS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (rb"version https://git-lfs", "is a Git LFS pointer, which only says where the model is",
     "Run `git lfs pull` in its folder."),
    (rb"lmgg|fmgg|tjgg", "is a GGML model from before GGUF, which llama.cpp no longer reads",
     "Choose a GGUF file of the model."),
    (rb"(?i)\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|script|!--)", "starts like a web page", _DOWNLOAD_AGAIN),
    (rb"(?i)\s*<\?xml", "starts like an XML document, such as the error of a server", _DOWNLOAD_AGAIN),
    (rb".{8}\s*\{\s*\"", "starts like a safetensors file, the format of PyTorch programs", _CHOOSE_GGUF),
    (rb"PK\x03\x04|PK\x05\x06", "starts like a zip archive or a PyTorch checkpoint", _UNPACK),
    (rb"\x80[\x02-\x05]", "starts like a PyTorch checkpoint", _CHOOSE_GGUF),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar", "starts like a packed archive", _UNPACK),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF|%PDF|ID3|OggS|fLaC|.{4}ftyp", "starts like a picture, a sound or a document",
     _CHOOSE_GGUF),
    (rb"\x89HDF|\x93NUMPY|.{4}TFL3|SQLite format", "starts like data of another program", _CHOOSE_GGUF),
    (rb"\x7fELF|MZ.{6}|#!|[\xcf\xce]\xfa\xed\xfe", "starts like a program", _CHOOSE_GGUF),
    (rb"\xff\xfe<\0|\xfe\xff\0<", "starts like a web page", _DOWNLOAD_AGAIN),
    (rb"\s*[\{\[]\s*[\"\{\[\}]", "starts like JSON, such as the error of a server", _DOWNLOAD_AGAIN),
    (rb"(?:(?:Entry |Repository )?[Nn]ot found|Access |Unauthorized|Forbidden|Invalid |Error|40[134])",
     "starts like the message of a server", _DOWNLOAD_AGAIN),
    (rb"[\t\n\r\x20-\x7e]{16,}\Z", "is a text", _CHOOSE_GGUF),
    (rb"\0+\Z", "holds only zeros at its start: its download did not finish", "Download the file again."),
)  # fmt: skip


def not_gguf(beginning: bytes) -> BadModelFile:
    """The error for a file with these first bytes, up to 512 of them, which are not those of a GGUF file."""
    for pattern, finding, remedy in _FORMATS:
        if re.match(pattern, beginning, re.DOTALL):
            return BadModelFile(f"The file is not a GGUF model: it {finding}.", remedy)
    return BadModelFile(
        "A GGUF model file was expected (its first letters are GGUF), and this one starts otherwise.",
        "Choose a file that ends in .gguf.",
    )
