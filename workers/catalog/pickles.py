"""Whether a file of weights that torch wrote holds plain tensors alone, told without unpickling it.

A pickle is a program for a small machine. It is harmless as long as it can name nothing but what
tensors are made of: the parts of `torch._weights_only_unpickler` that a state dict needs, and the
instructions that it knows. This reads no more than the instructions, and needs no torch.
"""

import pickletools  # nosec B403 # reads, and runs nothing
import re
import struct
from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, BadZipFile, ZipFile

ARCHIVE = b"PK\x03\x04"  # by these bytes torch knows its newer form, a zip, from its older one
STREAMS = 5  # of the older: magic number, protocol, machine, the object, the keys of its storages
INSTRUCTIONS = re.compile(
    r"PROTO|STOP|MARK|GLOBAL|REDUCE|BUILD|NEWOBJ|BINPERSID|(LONG_)?BIN(GET|PUT)|APPENDS?|SETITEMS?"
    r"|EMPTY_(TUPLE|LIST|DICT|SET)|TUPLE[123]?|NONE|NEWFALSE|NEWTRUE|BININT[12]?|LONG1|BINFLOAT"
    r"|BINUNICODE|SHORT_BINSTRING"
)
NAMES = re.compile(
    r"collections OrderedDict"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|qtensor|parameter)"
    r"|torch\.nn\.parameter Parameter"
    r"|torch\.serialization _get_layout"
    r"|torch (Size|device|\w+Storage|bool|q?u?int\d+|b?float\d+\w*|complex\d+)"
    r"|torch\.cuda \w+Storage"
    r"|torch\.storage (Typed|Untyped)Storage"
)

# What zipfile and pickletools raise for broken files; the last two for lengths that are made up.
BROKEN = (BadZipFile, EOFError, RuntimeError, struct.error, ValueError, MemoryError, OverflowError)


class NotPlain(Exception):
    """The message says what is wrong with the file, not which file it is."""


def check(path: Path) -> None:
    """Raises NotPlain, also for a file that is cut short or none of torch's; OSError."""
    try:
        with path.open("rb") as file:
            zipped = file.read(len(ARCHIVE)) == ARCHIVE
            file.seek(0)
            if zipped:
                _check_archive(file)
            else:
                for _ in range(STREAMS):
                    _check_stream(file)
    except BROKEN as error:
        raise NotPlain(f"it is broken, cut short or no file of torch's ({error})") from error


def _check_archive(file: IO[bytes]) -> None:
    with ZipFile(file) as archive:
        # Torch finds a name in upper case too.
        pickles = [it for it in archive.infolist() if it.filename.lower().endswith(".pkl")]
        if not pickles:
            raise NotPlain("it is a zip without the data.pkl that torch writes")
        for entry in pickles:
            # Torch compresses nothing; what others did might grow to any size here.
            if entry.compress_type != ZIP_STORED:
                raise NotPlain(f"{entry.filename} in it is compressed, which torch never does")
            with archive.open(entry) as stream:
                _check_stream(stream)


def _check_stream(stream: IO[bytes]) -> None:
    """One pickle; the stream then stands behind it."""
    for instruction, argument, _ in pickletools.genops(stream):
        if not INSTRUCTIONS.fullmatch(instruction.name):
            raise NotPlain(f"it holds the pickle instruction {instruction.name}")
        if instruction.name == "GLOBAL" and not NAMES.fullmatch(str(argument)):
            name = str(argument).replace(" ", ".")
            raise NotPlain(f"to read it would be to run code in it, with {name[:100]!r}")
