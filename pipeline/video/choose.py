"""Which decoder reads a file: PyAV, or decord where the configuration asks for it and it was shown to give the very same pixels.

PyAV is the default because it was never wrong and always faster (docs/decisions.md, "Which decoder"): read contiguously, which is the
only way decord is right, decord converts every frame to RGB and PyAV only the wanted ones (1.25 to 2.8 times the time). And decord does
not notice damage: of 294 copies of small clips with a few bytes flipped or zeroed it read 131 without a word, of which PyAV calls 45
damaged.

With `video.decoder: decord`, the first line that applies decides, and is stored with the video (decord 0.6.0; docs/decisions.md):

1. container: decord indexes only MP4, MOV, Matroska and WebM right (MPEG-TS and PS: wrong frames and a deadlock; AVI, WMV, Ogg, raw
   streams: wrong times or none);
2. codec: H.264, HEVC, VP8, VP9, MPEG-4 part 2. It cannot open AV1, and nothing else was compared;
3. stamps: every frame has one, no two the same, the first frame is a key frame and the first shown, and a duration is written.
   decord counts packets, so one that shows nothing (an edit list's, an alternate reference) shifts all that follow;
4. pixels: yuv420p of 8 bits, progressive, even sides of at least 64 pixels (it fails on 16), one size throughout. With more bits its
   conversion differs by 3.6 of 255, with odd sides or interlaced by 0.5;
5. cost: at most 640 x 480 pixels. At 1080p it takes 2.8 times as long as PyAV and three times the memory.

decord is read frame by frame from the first to the last wanted one, at full size with one thread: anything sparse gives wrong frames
silently, and `width=`/`height=` resizes bilinearly, which is not what the encoders were trained on (1 to 2 of 255 off).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pipeline.video.probe import Probe

CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
CODECS = {"h264", "hevc", "vp8", "vp9", "mpeg4"}
PIXELS = {"yuv420p", "yuvj420p"}
SMALLEST, LARGEST = 64, 640 * 480


class Choice(NamedTuple):
    """A decoder ("decord" or "pyav") and why."""

    decoder: str
    reason: str


def choose(probe: Probe, asked: str = "pyav") -> Choice:
    """The decoder of a probed file, when the configuration asks for `asked`."""
    if asked == "pyav":
        return Choice("pyav", f"{probe.codec} in {probe.container}")
    because = against_decord(probe)
    if because:
        return Choice("pyav", because)
    return Choice("decord", f"{probe.codec} in {probe.container}, no edit list, every frame stamped")


def against_decord(probe: Probe) -> str:
    """The first line of the rule that speaks against decord, or ""."""
    checks = [
        (probe.container not in CONTAINERS, f"decord does not index {probe.container} right"),
        (probe.codec not in CODECS, f"decord was not shown right on {probe.codec}"),
        (bool(probe.truncated), "the file is truncated"),
        (probe.edit_list, "an edit list hides frames that decord shows"),
        (probe.hidden > 0, f"{probe.hidden} packets show nothing"),
        (probe.unstamped > 0, f"{probe.unstamped} frames have no presentation time"),
        (probe.repeated > 0, f"{probe.repeated} presentation times are not unique"),
        (not probe.key_first or probe.leading > 0 or not probe.first_shown_first, "the stream does not begin with the first frame shown"),
        (not probe.has_duration, "the container has no duration"),
        (probe.repeats > 0, f"{probe.repeats} packets repeat the frame before"),
        (probe.pixels not in PIXELS, f"decord converts {probe.pixels} differently"),
        (probe.interlaced, "decord converts interlaced pictures differently"),
        (probe.width % 2 + probe.height % 2 > 0, f"decord converts the odd {probe.width}x{probe.height} differently"),
        (min(probe.width, probe.height) < SMALLEST, f"{probe.width}x{probe.height} is too small for decord"),
        (probe.changes > 0, "the picture's format changes on the way"),
        (probe.width * probe.height > LARGEST, f"at {probe.width}x{probe.height} decord would convert every frame, PyAV the wanted ones"),
    ]
    return next((reason for against, reason in checks if against), "")
