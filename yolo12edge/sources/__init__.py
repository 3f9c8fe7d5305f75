"""Where frames come from: images, folders, patterns, video files, cameras and network streams."""

from __future__ import annotations

from .address import is_stream
from .media import VIDEO_SUFFIXES, MediaFile, find_media
from .source import Source, open_source
from .video import Video

__all__ = ["VIDEO_SUFFIXES", "MediaFile", "Source", "Video", "find_media", "is_stream", "open_source"]
