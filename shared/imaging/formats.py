"""What a file is, by its first bytes."""

import struct

from shared.errors import Reason, RejectedScan

VOLUMES = ("DICOM", "NIfTI")
"""Formats that hold hundreds of slices in a file, for which more bytes are read."""

HEAD_BYTES = 512
"""As many of a file's first bytes tell its format."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_GZIP = b"\x1f\x8b\x08"
_OTHER_IMAGES = (
    *(
        b"GIF8",
        b"RIFF",
        b"8BPS",
        b"\0\0\1\0",
        b"%PDF",
        b"NRRD000",
        b"DSIm",
        b"SIMPLE  =",
        b"v/1\x01",
        b"qoif",
        b"BPG\xfb",
    ),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cJXL "),
    *(b"P%d%c" % (kind, blank) for kind in range(1, 8) for blank in b"\n\r\t #"),  # PBM, PGM, PPM and PAM
    *(b"PF\n", b"Pf\n"),
)


def format_of(content: bytes) -> str:
    """Return JPEG, PNG, BMP, TIFF, DICOM or NIfTI, by the first 512 bytes.

    Raises RejectedScan: unsupported format or not an image.
    """
    if content[128:132] == b"DICM":
        return "DICOM"
    for signature, file_format in _SIGNATURES.items():
        if content.startswith(signature):
            return file_format
    if content.startswith(_GZIP) or content[344:348] == b"n+1\0" or content[4:8] == b"n+2\0":
        return "NIfTI"
    if content.startswith(_OTHER_IMAGES) or content[4:8] == b"ftyp" or content[344:348] == b"ni1\0":
        raise RejectedScan(Reason.UNSUPPORTED_FORMAT)
    if _is_bare_dicom(content):
        return "DICOM"
    raise RejectedScan(Reason.NOT_AN_IMAGE)


def _is_bare_dicom(content: bytes) -> bool:
    """Whether the bytes look like a data set without the 128 bytes and DICM of a file, as Siemens writes them.

    It starts with group 0002 or 0008: in explicit VR with two capital letters behind the tag, in implicit VR with a
    length of a short value.
    """
    if len(content) < 16:
        return False
    for order in "<>":
        group, element, vr, _ = struct.unpack(f"{order}HH2sH", content[:8])
        (length,) = struct.unpack(f"{order}L", content[4:8])
        explicit = vr.isalpha() and vr.isupper()
        if group in (0x0002, 0x0008) and element <= 0x1000 and (explicit or (order == "<" and length <= 1024)):
            return True
    return False
