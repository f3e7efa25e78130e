"""A picture from a stranger as pixels: few formats, bounded before anything is decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

from pipeline.core.errors import EncoderError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MOST_BYTES, MOST_PIXELS = 10_000_000, 40_000_000
SIDE = 2048  # pixels: no encoder looks at more


def decoded(content: bytes) -> np.ndarray:
    """The picture, the first of an animation, turned as it is to be shown, its transparent parts white. Shapes: -> uint8 [H, W, 3].

    Errors: EncoderError when it is too large, of another format, or damaged.
    """
    if len(content) > MOST_BYTES:
        raise EncoderError(f"the picture has more than {MOST_BYTES / 1e6:.0f} MB", fix="make it smaller")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            # Known from the header: a few kilobytes may unpack to gigabytes.
            if image.width * image.height > MOST_PIXELS:
                raise EncoderError(f"the picture has {image.width} x {image.height} pixels", fix="make it smaller")
            image.draft("RGB", (SIDE, SIDE))  # of a JPEG, decodes no more than that
            shown = ImageOps.exif_transpose(image)
            shown.thumbnail((SIDE, SIDE), reducing_gap=2.0)
            if shown.has_transparency_data:
                shown = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown.convert("RGBA"))
            return np.asarray(shown.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise EncoderError("the picture has far too many pixels", fix="make it smaller") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, OverflowError) as error:
        raise EncoderError("this is no picture that can be read", fix=f"give one of {', '.join(FORMATS)}") from error
