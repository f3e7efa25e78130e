"""Image and text towers of open_clip, from a tag, a file or a folder, with every parameter loaded or an error."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.encoders import OpenClip
from pipeline.core.errors import EncoderError
from pipeline.encoders import architecture, checkpoints, onednn, text
from pipeline.encoders.base import PRECISIONS, Caption
from pipeline.encoders.preprocess import Normalisation
from pipeline.encoders.text import Tokenizer
from pipeline.encoders.weights import Weights, resolve

TEXT_BATCH = {"cpu": 16, "cuda": 256}


class OpenClipEncoder:
    """A loaded model: frames to projected image vectors, captions to token states and sentence vectors (none normalised).

    `dim`: E of images and sentences; `text_dim`: D of token states; `context_length`: most tokens of a caption; `weights`: what was
    loaded; `preprocessing`: mean, std, size, interpolation, resize_mode; `text_batch`: captions computed at once, always as many.
    """

    def __init__(
        self, model: Any, cfg: dict[str, Any], weights: Weights, preprocessing: dict[str, Any], config: OpenClip, device: torch.device
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        if device.type == "cpu":
            onednn.quicken(self.model)
        self.model.visual.to(memory_format=torch.channels_last)
        self.weights, self.preprocessing, self.device, self._cfg, self._config = weights, preprocessing, device, cfg, config
        self.context_length = int(getattr(model, "text", model).context_length)
        self.normalise = Normalisation(preprocessing["mean"], preprocessing["std"])
        self._dtype, self.text_batch = PRECISIONS[config.precision], TEXT_BATCH[device.type]
        with torch.inference_mode():
            self.dim = int(self.encode(np.zeros((1, config.size, config.size, 3), np.uint8)).shape[-1])
        if config.compile:
            self.model.visual = torch.compile(self.model.visual)

    @functools.cached_property
    def tower(self) -> Any:
        """The text tower. EncoderError when it has no token states."""
        return text.text_tower(self.model)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, read with the first caption: who wants images alone needs none."""
        return architecture.tokenizer_of(self._config, self.weights, self._cfg)

    @property
    def text_dim(self) -> int:
        """Width of the text transformer."""
        return int(self.tower.ln_final.normalized_shape[0])

    @property
    def sentence_is_last(self) -> bool:
        return text.ends_in_sentence(self.tower)

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        with torch.inference_mode(), torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            yield

    def encode(self, rows: Tensor | np.ndarray) -> Tensor:
        """Projected image vectors. Shapes: rows uint8 [N, S, S, 3] RGB -> float32 [N, E] on the encoder's device."""
        frames = torch.as_tensor(rows).to(self.device, non_blocking=True)
        with self._computing():
            return self.model.encode_image(self.normalise(frames)).float()

    def encode_texts(self, texts: Sequence[str]) -> list[Caption]:
        """For each caption its token states after the final norm, and its sentence vector (= open_clip's encode_text).

        A tower with a causal mask reads the tokens alone, any other what the library gives it: the tokens and padding up to the context
        length, of which the tokens' states are kept. Shapes: -> states float32 [L, D], sentence float32 [E].
        """
        tokens, whole = self.tokenizer(texts), text.reads_padding(self.tower)
        ids = [text.padded(row.ids, self.tokenizer) if whole else row.ids for row in tokens]
        captions: dict[int, Caption] = {}
        batch = self.text_batch
        for group in text.by_length(ids, batch):
            # The batch always has the same size: what a caption gets does not depend on which others are computed with it.
            rows = torch.stack([ids[i] for i in group] + [ids[group[0]]] * (batch - len(group))).to(self.device)
            with self._computing():
                states, sentences = text.padded_states(self.model, self.tower, rows) if whole else text.states(self.tower, rows)
            states, sentences = states.float().cpu(), sentences.float().cpu()
            for place, i in enumerate(group):
                captions[i] = Caption(states[place, : len(tokens[i].ids)], sentences[place], tokens[i].truncated)
        return [captions[i] for i in range(len(texts))]


def load(config: OpenClip, device: torch.device | str = "cpu", name: str = "") -> OpenClipEncoder:
    """The configured encoder with its pretrained weights on `device`.

    Errors: WeightsError (missing, damaged, wrong checksum, another architecture's, QuickGELU mismatch), EncoderError (unknown
    architecture, another image size, a preprocessing the frames were not made for).
    """
    weights = resolve(config, name)
    architecture.import_library()
    cfg, preprocessing = architecture.described(config, weights)
    architecture.check_network_free(cfg, config)
    state = checkpoints.read(weights.file)
    architecture.check_quick_gelu(cfg, state, weights, config)
    model = architecture.build(config, weights, cfg)
    checkpoints.load_strict(model, architecture.fitted(state, model), where=weights.file)
    size = model.visual.image_size
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if sides != (config.size, config.size):
        raise EncoderError(
            f"{config.architecture} takes {sides[0]}x{sides[1]} pixels, the configuration says size: {config.size}",
            fix=f"set size: {sides[0]}",
        )
    preprocessing["size"] = config.size
    architecture.check_frames(config, preprocessing)
    return OpenClipEncoder(model, cfg, weights, preprocessing, config, torch.device(device))
