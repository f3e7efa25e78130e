"""Opening a file: its video stream, or why it has none that can be read."""

from __future__ import annotations

import os
import stat
from typing import Any

import av

from pipeline.core.errors import VideoError, printable
from pipeline.video.containers import Structure
from pipeline.video.packets import codec_name, words

# Demuxers that answer to a text, a picture, or a list of other files: what they open is not a video file.
_NOT_VIDEO = {
    "tty",
    "srt",
    "ass",
    "webvtt",
    "lrc",
    "ffmetadata",
    "concat",
    "hls",
    "dash",
    "sdp",
    "image2",
    "bin",
    "xbin",
    "adf",
    "idf",
    "ico",
    "svg",
}
# No sample of these was ever compared with a second decoder, and FFmpeg builds differ in having one at all.
_NOT_VERIFIED = {"vvc", "evc", "apv"}
_AGAIN = "copy or download the file again"
_LOOK = "see what it holds (`file`), download it again"


def open_container(path: str) -> Any:
    """Open a file, and never anything it refers to."""
    return av.open(path, options={"protocol_whitelist": "file"})


def one_thread(stream: Any) -> Any:
    """The stream's decoder, kept to one thread: videos are decoded side by side, and a threaded decoder was once seen to stall."""
    if stream.codec_context is not None:
        stream.codec_context.thread_count = 1
    return stream.codec_context


def check_name(path: str) -> None:
    """Errors: VideoError BAD_NAME when the name is no text: neither decoders nor the files that list videos can hold it."""
    if printable(path) != path:
        raise VideoError("BAD_NAME", "its name is not UTF-8 text", where=printable(path), fix="rename it")


def size_of(path: str) -> int:
    """Bytes of a file. Errors: VideoError MISSING, NOT_VIDEO (a device, a pipe), EMPTY."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("NOT_VIDEO", "neither a file nor a folder of frames", where=path, fix="point the row at a video file")
    if status.st_size == 0:
        raise VideoError("EMPTY", "the file holds no bytes", where=path, fix=_AGAIN)
    return status.st_size


def unreadable(path: str, error: OSError) -> VideoError:
    """What is said of a file that is gone, that a link does not reach, or that may not be read."""
    fix = "give read permission" if isinstance(error, PermissionError) else "restore the file, or drop its rows"
    return VideoError("MISSING", f"the file cannot be read: {words(error)}", where=path, fix=fix)


def open_video(path: str, layout: Structure) -> Any:
    """The container of a video file, whose structure is `layout`. Errors: VideoError MISSING, TRUNCATED, DECODE_ERROR, NOT_VIDEO."""
    try:
        container = open_container(path)
    except (PermissionError, FileNotFoundError) as error:
        raise unreadable(path, error) from error
    except (av.FFmpegError, EOFError, ValueError) as error:
        if layout.missing:
            raise VideoError("TRUNCATED", f"cannot be opened: {layout.missing}", where=path, fix=_AGAIN) from error
        if layout.container:
            raise VideoError("DECODE_ERROR", f"a damaged {layout.container} file: {words(error)}", where=path, fix=_AGAIN) from error
        raise VideoError("NOT_VIDEO", "not a video file", where=path, fix=_LOOK) from error
    name = container.format.name
    if name in _NOT_VIDEO or name.endswith("_pipe"):
        container.close()
        raise VideoError("NOT_VIDEO", f"not a video file (it reads as {name})", where=path, fix=_LOOK)
    return container


def video_stream(container: Any, layout: Structure, path: str) -> Any:
    """The video stream that FFmpeg, decord and players choose (the largest), never a cover picture.

    Errors: VideoError TRUNCATED, NO_VIDEO_STREAM, UNSUPPORTED_CODEC.
    """
    kinds = av.stream.Disposition
    streams = [s for s in container.streams.video if not s.disposition & (kinds.attached_pic | kinds.timed_thumbnails)]
    if not streams and layout.missing:
        raise VideoError("TRUNCATED", f"no stream is left: {layout.missing}", where=path, fix=_AGAIN)
    if not streams:
        held = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise VideoError(
            "NO_VIDEO_STREAM", f"no video stream (streams: {held})", where=path, fix="this is not the video: download it again"
        )
    best = container.streams.best("video")
    chosen = best if best in streams else streams[0]
    context = one_thread(chosen)
    if context is None or codec_name(context) in _NOT_VERIFIED:
        name = "unknown" if context is None else codec_name(context)
        raise VideoError(
            "UNSUPPORTED_CODEC", f"codec {name} is not supported", where=path, fix="convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    return chosen
