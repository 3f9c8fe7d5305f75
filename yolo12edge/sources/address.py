"""Addresses of cameras and network streams: which are some, and how they are shown without their passwords."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from ..errors import InputError

__all__ = ["is_camera", "is_stream", "is_url", "masked"]

_SCHEMES = ("ftp", "http", "https", "rtmp", "rtmps", "rtp", "rtsp", "rtsps", "srt", "tcp", "udp")
_MASK = "***"
# Some cameras take the password in the query, and some in the path: "/user=admin_password=x_channel=1".
_SECRET = re.compile(
    r"([?&;/_](?:[\w.-]*(?:auth|key|pass|pwd|secret|sig|token)[\w.-]*)=).*?(?=[&;/#]|_[a-z]+=|\Z)",
    re.IGNORECASE | re.DOTALL,
)


def is_stream(source: str) -> bool:
    """Say whether this is a camera or a URL rather than a file, folder or pattern.

    Raises:
        InputError: If it is a URL of a scheme that is not read.
    """
    return is_url(source) or is_camera(source)


def is_url(source: str) -> bool:
    """Say whether this is a URL.

    Raises:
        InputError: If its scheme is not read. Not every scheme that FFmpeg knows is: some are no network streams.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    if scheme is None:
        return False
    if scheme[1].lower() not in _SCHEMES:
        raise InputError(
            f"{masked(source)} has the scheme {scheme[1]!r}",
            expected=", ".join(_SCHEMES),
            remedy="name a local file by its path" if scheme[1].lower() == "file" else "",
        )
    return True


def is_camera(source: str) -> bool:
    """Say whether this is a camera's device file or a link to one; names that only cameras have need not be there."""
    if source.startswith(("/dev/video", "/dev/v4l/")):
        return True
    try:
        return stat.S_ISCHR(Path(source).stat().st_mode)
    except (OSError, ValueError):
        return False


def masked(source: str) -> str:
    """Return an address with everything that may be a password replaced by ``***``; other text is returned as it is.

    What stands before the last ``@`` counts as user and password even where that breaks the rules of URLs: cameras
    have passwords with any character, and a name shown shorter than it is does no harm.
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        return source
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    shown = f"{user}:{_MASK}@" if colon else credentials + at
    return f"{scheme}://" + _SECRET.sub(rf"\g<1>{_MASK}", shown + place)
