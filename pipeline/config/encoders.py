"""The kinds of encoders there are: one settings class each (config/encoder.py says what they have in common)."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.config import published as tables
from pipeline.config.base import Section, of_kind
from pipeline.config.encoder import UNKNOWN, Encoder, cache_home, home, json_object
from pipeline.config.published import Published
from pipeline.config.streams import Stream
from pipeline.core.names import choice, nearest


class OpenClip(Encoder):
    """An image and text encoder of open_clip."""

    kind: Literal["open_clip"] = "open_clip"
    architecture: str = Field(
        "ViT-B-16-quickgelu",
        description="open_clip architecture; OpenAI weights need the `-quickgelu` ones; a folder of your own: any unused name.",
    )
    weights: str = Field("openai", description="A pretrained tag, a weights file, or a folder with `open_clip_config.json`.")
    size: PositiveInt = Field(224, description="Side of the square input, pixels; must be the architecture's.")
    resize: Literal["shortest", "squash"] | None = Field(
        None,
        description="How a frame becomes a square: by its short side and a centre crop, or squashed. Null: as the weights were trained, "
        "which the tag or the folder says; of a bare file `shortest`.",
    )
    interpolation: Literal["bicubic", "bilinear"] | None = Field(None, description="Of the resizing. Null: as for `resize`, else bicubic.")
    compile: bool = Field(False, description="torch.compile the image tower: faster on long runs, other last bits.")

    reads_text: ClassVar[bool] = True
    of_pictures: ClassVar[tuple[str, ...]] = ("size", "sampling", "resize", "interpolation", "compile")
    config_file: ClassVar[str] = "open_clip_config.json"

    @property
    def weight_files(self) -> tuple[str, ...]:
        return tables.HUB_FILES

    @property
    def libraries(self) -> tuple[str, ...]:
        timm = self.model.get("vision_cfg", {}).get("timm_model_name")
        return ("open_clip_torch", *(["timm"] if timm else []), *(["tokenizers"] if self.tokenizer else []))

    @property
    def published(self) -> Published | None:
        by_tag = tables.table().get(self.architecture, {}).get(tables.clean(self.weights))
        return by_tag or tables.by_file().get(Path(self.weights).name)

    @property
    def places(self) -> list[Path]:
        """As any encoder's; of a tag, the hub's and the libraries' own caches come last."""
        entry = tables.table().get(self.architecture, {}).get(tables.clean(self.weights))
        if entry is None:
            return super().places
        places = [home() / entry.file] if entry.url else []
        places += [home() / entry.hub_id.split("/")[-1] / name for name in entry.hub_files if entry.hub]
        places += [Path.home() / ".cache" / "clip" / entry.file] if entry.url else []
        return places + [path for name in entry.hub_files if entry.hub and (path := _in_hub_cache(entry.hub_id, name))]

    @property
    def mistyped(self) -> str:
        if Path(self.weights).suffix or "/" in self.weights or self.published:
            return ""
        if self.architecture in tables.table():
            return f"{self.weights!r} is no tag of {self.architecture}, and no file or folder"
        known = "nothing is published for" if self.model else "open_clip has no architecture"
        return f"{known} {self.architecture!r}, and {self.weights!r} is no file or folder"

    @property
    def hint(self) -> str:
        if not self.mistyped:
            return ""
        tag, known = tables.clean(self.weights), tables.table()
        if self.architecture not in known and not self.model:
            return f"{choice(self.architecture, known)}; an architecture of your own comes as a folder with {self.config_file}"
        others = [architecture for architecture, tags in known.items() if tag in tags]
        said = [f"tags: {choice(tag, tags)}"] if (tags := known.get(self.architecture)) else []
        return "; ".join([*said, *([f"{self.weights!r} is a tag of {', '.join(others[:6])}"] if others else [])]) or (
            f"put a file or a folder there; architectures with tags: {', '.join(known)}"
        )

    @property
    def described(self) -> dict[str, Any]:
        """How the weights' pictures were prepared: mean, std, interpolation, resize_mode, as far as their tag or folder says."""
        if self.folder is not None:
            return dict(json_object(self.folder / self.config_file).get("preprocess_cfg") or {})
        return dict(self.published.preprocessing) if self.published else {}

    @property
    def stream(self) -> Stream:
        said = self.described
        resize = self.resize or said.get("resize_mode") or "shortest"
        interpolation = self.interpolation or said.get("interpolation") or "bicubic"
        return Stream(self.sampling.every, self.sampling.at, self.size, resize=resize, interpolation=interpolation)

    @property
    def model(self) -> dict[str, Any]:
        """open_clip's description of the architecture, read without importing it (that takes seconds); empty when unknown."""
        if self.folder is not None:
            return dict(json_object(self.folder / self.config_file).get("model_cfg") or {})
        spec = find_spec("open_clip")
        for place in (spec.submodule_search_locations or []) if spec else []:
            path = Path(place) / "model_configs" / f"{self.architecture}.json"
            if path.is_file():
                return json_object(path)
        return {}

    @property
    def tokenizer(self) -> str:
        """The name on the hub of a tokenizer that is not CLIP's own; empty for CLIP's."""
        return str(self.model.get("text_cfg", {}).get("hf_tokenizer_name") or "")

    @property
    def vocabulary(self) -> Path | None:
        """`tokenizer.json` of a tokenizer that is not CLIP's own: beside the weights, in the weights folder, or in the hub's cache."""
        if not self.tokenizer:
            return None
        near = [place if place.is_dir() else place.parent for place in self.places if place.exists()]
        places = [folder / "tokenizer.json" for folder in [*near, home() / self.tokenizer.split("/")[-1]]]
        cached = _in_hub_cache(self.tokenizer, "tokenizer.json")
        return next((path for path in places if path.is_file()), cached)

    @property
    def vocabulary_page(self) -> str:
        return f"https://huggingface.co/{self.tokenizer}" if self.tokenizer else ""

    @property
    def cost(self) -> tuple[float, int]:
        model = self.model
        vision = model.get("vision_cfg", {})
        if not isinstance(vision.get("layers"), int) or "patch_size" not in vision:
            return 20e9 * (self.size / 224) ** 2, int(model.get("embed_dim", UNKNOWN[1]))
        tokens, width, layers = (self.size // vision["patch_size"]) ** 2 + 1, vision["width"], vision["layers"]
        return float(layers * (24 * tokens * width**2 + 4 * tokens**2 * width)), int(model["embed_dim"])

    @property
    def text_cost(self) -> tuple[float, int]:
        text = self.model.get("text_cfg", {})
        tokens, width, layers = text.get("context_length", 77), text.get("width", 512), text.get("layers", 12)
        return float(layers * (24 * tokens * width**2 + 4 * tokens**2 * width)), width


class SlowFast(Encoder):
    """A SlowFast motion encoder of pytorchvideo."""

    kind: Literal["slowfast"] = "slowfast"
    architecture: str = Field(
        "slowfast_r50", description="`slowfast_r50`, `slowfast_r101`, `slowfast_16x8_r101_50_50`, or a name of your own with a folder."
    )
    weights: str = Field(
        "SLOWFAST_8x8_R50.pyth",
        description="A checkpoint file, or a folder with `slowfast_config.json` (arguments of `create_slowfast`).",
    )
    frames: PositiveInt = Field(32, description="Frames of the fast pathway per window.")
    fps: PositiveFloat = Field(30.0, description="Rate the window is read at, frames per second.")
    stride: PositiveInt = Field(2, description="Take every n-th frame at `fps`; past the window's end the last is repeated.")
    alpha: PositiveInt = Field(4, description="The slow pathway takes one in alpha of them.")
    compile: bool = Field(False, description="torch.compile the network: faster on long runs, other last bits.")

    shaped_by: ClassVar[tuple[str, ...]] = ("size", "frames", "alpha")
    config_file: ClassVar[str] = "slowfast_config.json"

    @property
    def weight_files(self) -> tuple[str, ...]:
        known = tables.SLOWFAST.get(self.architecture)
        return ("slowfast_model.safetensors", "slowfast_model.pyth", *([known.file] if known else []))

    @property
    def libraries(self) -> tuple[str, ...]:
        return ("pytorchvideo",)

    @property
    def stream(self) -> Stream:
        return Stream(self.sampling.every, "window", self.size, self.frames, self.fps, self.stride)

    @property
    def published(self) -> Published | None:
        entry = tables.SLOWFAST.get(self.architecture)
        return entry if entry and Path(self.weights).name == entry.file else None

    @property
    def mistyped(self) -> str:
        near = self.architecture not in tables.SLOWFAST and nearest(self.architecture, tables.SLOWFAST)
        return f"pytorchvideo has no architecture {self.architecture!r}, and {self.weights!r} is no file or folder" if near else ""

    @property
    def hint(self) -> str:
        return f"{choice(self.architecture, tables.SLOWFAST)}; or put a folder with {self.config_file} there" if self.mistyped else ""

    @property
    def places(self) -> list[Path]:
        """As any encoder's, and the cache of torch.hub."""
        value = Path(self.weights).expanduser()
        hub = Path(os.environ.get("TORCH_HOME") or cache_home() / "torch") / "hub" / "checkpoints"
        return super().places if value.is_absolute() else [*super().places, hub / value.name]

    @property
    def cost(self) -> tuple[float, int]:
        known = {"slowfast_r50": (132e9, 2304), "slowfast_r101": (254e9, 2304), "slowfast_16x8_r101_50_50": (430e9, 2304)}
        flops, width = known.get(self.architecture, UNKNOWN)
        return flops * (self.size / 224) ** 2 * self.frames / 32, width


class Transformers(Encoder):
    """A motion encoder of transformers (`pip install 'prvr[transformers]'`): VideoMAE or V-JEPA 2."""

    kind: Literal["transformers"] = "transformers"
    architecture: str = Field("", description="Left empty: `config.json` says.")
    weights: str = Field(..., description="A folder with `config.json` and `model.safetensors`, as the model's page has them.")
    size: PositiveInt = Field(224, description="Side of the square input, pixels; must be the model's (V-JEPA 2: 256).")
    frames: PositiveInt = Field(16, description="Frames per window; VideoMAE's must be the model's, V-JEPA 2's even.")
    fps: PositiveFloat = Field(8.0, description="Rate the window is read at, frames per second; past its end the last is repeated.")

    shaped_by: ClassVar[tuple[str, ...]] = ("size", "frames")

    @property
    def libraries(self) -> tuple[str, ...]:
        return ("transformers",)

    @property
    def model(self) -> dict[str, Any]:
        """The model's `config.json`; empty when it is not here."""
        return json_object(self.folder / self.config_file) if self.folder is not None else {}

    @property
    def described(self) -> dict[str, Any]:
        """How the model's pictures are prepared: `side`, `interpolation`, `mean`, `std`, by its processor's file or its defaults."""
        folder = self.folder
        places = [folder / name for name in ("video_preprocessor_config.json", "preprocessor_config.json")] if folder else []
        said = next((json_object(place) for place in places if place.is_file()), {})
        sides = said["size"] if isinstance(said.get("size"), dict) else {}
        # V-JEPA 2's processor takes this share of its crop, whatever its file says.
        side = self.size * 256 // 224 if self.model.get("model_type") == "vjepa2" else sides.get("shortest_edge") or self.size
        interpolation = {2: "bilinear", 3: "bicubic"}.get(said.get("resample", 2), "bilinear")
        half = self.model.get("model_type") == "videomae"  # its processor's own defaults
        mean, std = ((0.5,) * 3, (0.5,) * 3) if half else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        return {"side": side, "interpolation": interpolation, "mean": said.get("image_mean", mean), "std": said.get("image_std", std)}

    @property
    def stream(self) -> Stream:
        said = self.described
        side = 0 if said["side"] == self.size else int(said["side"])
        window = Stream(self.sampling.every, "window", self.size, self.frames, self.fps, 1, side=side, exact=True, corner="floor")
        return replace(window, interpolation=said["interpolation"])

    @property
    def cost(self) -> tuple[float, int]:
        model = self.model
        if not model:
            return UNKNOWN
        patches = (self.size // model.get("patch_size", 16)) ** 2 * self.frames // model.get("tubelet_size", 2)
        width, layers = model.get("hidden_size", 768), model.get("num_hidden_layers", 12)
        return float(layers * (24 * patches * width**2 + 4 * patches**2 * width)), int(width)


class Imported(Section):
    """Features or query states of a published bundle, put here by `prvr import`; nothing is computed."""

    kind: Literal["imported"] = "imported"


if TYPE_CHECKING:
    AnyEncoder = Encoder | Imported
else:
    AnyEncoder = of_kind("encoders", Encoder, OpenClip, SlowFast, Transformers, Imported)


def _in_hub_cache(repository: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, name)
    return Path(path) if isinstance(path, str) else None
