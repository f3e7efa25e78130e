"""One video file or one sentence through one encoder, without a dataset: what the stages do, for a caller with a file in hand."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.config.schema import Config
from pipeline.core.errors import VideoError
from pipeline.encoders import base
from pipeline.encoders.base import Caption, TextEncoder
from pipeline.video import grids
from pipeline.video.messages import Job, Outcome
from pipeline.video.pool import Pool

ROWS = 64  # encoded at once


@dataclass(frozen=True)
class Features:
    """A video as an encoder sees it. Shapes: `rows` [N, D] float32, not normalised; `start`, `end` [N] s; `duration` s."""

    rows: np.ndarray
    start: np.ndarray
    end: np.ndarray
    duration: float


class FileEncoder:
    """An encoder of a configuration, its weights loaded once. Errors: WeightsError, EncoderError."""

    def __init__(self, config: Config, name: str, device: torch.device | str = "cpu") -> None:
        self._config, self._settings = config, config.network(name)
        self._model = base.load(self._settings, device, name)
        self._name = name

    def encode_video(self, path: str | Path) -> Features:
        """A file, or a folder of extracted frames, decoded and encoded as the workflow does.

        Errors: VideoError with a quarantine code when it cannot be decoded; the configuration's limits of time and memory hold.
        """
        settings, stream = self._config.video, self._settings.stream
        pool = Pool(1, timeout=settings.timeout, timeout_per_second=settings.timeout_per_second, memory_mb=settings.memory_mb)
        with tempfile.TemporaryDirectory() as temporary, pool:
            folder = Path(temporary) / "video"
            job = Job(
                video_id=str(path),
                paths=(str(path),),
                streams={"rows": stream.recipe},
                folder=folder,
                frames_fps=settings.frames_fps,
                keep_truncated=settings.keep_truncated,
                decoder=settings.decoder,
            )
            outcome = next(pool.run([job]))
            assert isinstance(outcome, Outcome)
            if outcome.code:
                raise VideoError(outcome.code, outcome.message, where=path, fix="copy or encode the file again, or leave it out")
            pixels = np.fromfile(folder / "rows.frames", np.uint8).reshape(-1, stream.size, stream.size, 3)
            windows = np.load(folder / "rows.windows.npy")
        start, end = grids.rows(outcome.duration, stream.every)
        taken = windows[:, 0] if stream.count == 1 else windows
        parts = [self._model.encode(pixels[taken[i : i + ROWS]]).float().cpu() for i in range(0, len(taken), ROWS)]
        return Features(torch.cat(parts).numpy(), start, end, outcome.duration)

    def encode_text(self, sentence: str) -> Caption:
        """A sentence: the states of its words and one vector, as a query is stored. Errors: EncoderError without a text tower."""
        if not isinstance(self._model, TextEncoder):
            raise base.no_text(self._settings, self._name)
        return self._model.encode_texts([" ".join(sentence.split())])[0]
