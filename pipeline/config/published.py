"""What is published under which tag: file names, addresses, checksums, licences, without importing torch or open_clip.

`published.json` is open_clip's own table of pretrained weights; `python -m pipeline.config.published` writes it again.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_name("published.json")
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in the order open_clip looks for them
_KINETICS = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics"
_LICENCES = {  # by publisher: the start of the address or of the hub repository
    "https://openaipublic.azureedge.net/": "MIT (OpenAI)",
    "https://github.com/mlfoundations/": "MIT (OpenCLIP)",
    "laion/": "MIT (LAION)",
    "https://dl.fbaipublicfiles.com/MMPT/metaclip/": "CC-BY-NC-4.0 (Meta, MetaCLIP)",
    "apple/": "Apple sample code / model licence (see the repository)",
    _KINETICS: "Apache-2.0 (PyTorchVideo; trained on Kinetics-400)",
}
_SIZES = {  # MB, as shown by the publishers' downloads
    "RN50.pt": 256,
    "ViT-B-32.pt": 354,
    "ViT-B-16.pt": 351,
    "ViT-L-14.pt": 933,
    "ViT-L-14-336px.pt": 934,
    "SLOWFAST_8x8_R50.pyth": 277,
}


@dataclass(frozen=True)
class Published:
    """One published set of weights.

    `url` or `hub` (or both) say where it is; `quick_gelu` which activation it was trained with; `preprocessing` what differs from
    OpenAI's (mean, std, interpolation, resize_mode).
    """

    url: str = ""
    hub: str = ""
    quick_gelu: bool = False
    preprocessing: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """Name of the file at `url`."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def hub_id(self) -> str:
        """`organisation/repository` on the Hugging Face hub."""
        return "/".join(self.hub.split("/")[:2])

    @property
    def hub_files(self) -> tuple[str, ...]:
        """The file names to look for in the repository, best first."""
        named = self.hub.split("/", 2)[2] if self.hub.count("/") >= 2 else ""
        return (named,) if named else HUB_FILES

    @property
    def sha256(self) -> str:
        """The checksum of the file at `url`: OpenAI's addresses hold it whole, OpenCLIP's releases its first 8 digits; else empty."""
        if "openaipublic" in self.url:
            return self.url.split("/")[-2]
        return self.file.rsplit(".", 1)[0].rsplit("-", 1)[-1] if "mlfoundations" in self.url else ""

    @property
    def licence(self) -> str:
        places = (self.url, self.hub)
        return next((text for start, text in _LICENCES.items() for place in places if place.startswith(start)), "see the publisher's page")

    @property
    def megabytes(self) -> int | None:
        return _SIZES.get(self.file)

    @property
    def address(self) -> str:
        return " or ".join(place for place in (self.url, f"https://huggingface.co/{self.hub_id}" if self.hub else "") if place)


SLOWFAST = {  # the published file of each architecture of pytorchvideo
    "slowfast_r50": Published(f"{_KINETICS}/SLOWFAST_8x8_R50.pyth"),
    "slowfast_r101": Published(f"{_KINETICS}/SLOWFAST_8x8_R101.pyth"),
    "slowfast_16x8_r101_50_50": Published(f"{_KINETICS}/SLOWFAST_16x8_R101_50_50.pyth"),
}


@functools.cache
def table() -> dict[str, dict[str, Published]]:
    """architecture -> tag -> what is published, as open_clip knows it."""
    raw = json.loads(_TABLE.read_text())
    return {arch: {tag: Published(**entry) for tag, entry in tags.items()} for arch, tags in raw.items()}


def clean(tag: str) -> str:
    """A tag as open_clip spells it: lower case, underscores."""
    return tag.lower().replace("-", "_")


@functools.cache
def by_file() -> dict[str, Published]:
    """file name -> what is published under it."""
    return {entry.file: entry for tags in table().values() for entry in tags.values() if entry.url}


def from_open_clip() -> dict[str, dict[str, dict[str, Any]]]:
    """open_clip's table, reduced to what differs from its defaults."""
    from open_clip.pretrained import _PRETRAINED, _pcfg

    usual = _pcfg()
    by_architecture: dict[str, dict[str, dict[str, Any]]] = {}
    for arch, tags in _PRETRAINED.items():
        for tag, entry in tags.items():
            row: dict[str, Any] = {key: entry[source] for key, source in (("url", "url"), ("hub", "hf_hub")) if entry.get(source)}
            if entry.get("quick_gelu"):
                row["quick_gelu"] = True
            different = {k: entry[k] for k in ("mean", "std", "interpolation", "resize_mode") if tuple(entry[k]) != tuple(usual[k])}
            if different:
                row["preprocessing"] = {k: list(v) if isinstance(v, tuple) else v for k, v in different.items()}
            by_architecture.setdefault(arch, {})[tag] = row
    return by_architecture


if __name__ == "__main__":
    _TABLE.write_text(json.dumps(from_open_clip(), indent=1) + "\n")
