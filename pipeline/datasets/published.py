"""Published results per benchmark, to stand beside your own: recalls in percent as printed, with the features and the gallery they used.

Source: METHODS section 11 (repository READMEs, MSC Table 5, RAL's figure); docs/datasets.md says which gallery each used.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """One row of a published table. R@K and SumR in percent, nan where they are not printed.

    `gallery` is the evaluation set of this project the row belongs to, empty where the source does not say; `pool` says it in words.
    """

    method: str
    features: str
    r1: float
    r5: float
    r10: float
    r100: float
    sum_r: float
    gallery: str
    pool: str
    source: str


_CLIP, _OLD = "CLIP ViT-L/14", "I3D (TVR: with ResNet-152) + RoBERTa"
_QVH = "CLIP-B + SlowFast"
_README, _TABLE5, _PAPER = "its repository's README", "MSC, Table 5", "MSC paper"

# method -> R@1/R@5/R@10/R@100/SumR on TVR, ActivityNet, Charades-STA; - where not reported
_MSSL_FEATURES = """
MS-SL        | 13.5/32.1/43.4/83.4/172.3 | 7.1/22.5/34.7/75.8/140.1 | 1.8/7.1/11.8/47.7/68.4
DL-DKD       | 14.4/34.9/45.8/84.9/179.9 | 8.0/25.0/37.5/77.1/147.6 | -
GMMFormer    | 13.9/33.3/44.5/84.9/176.6 | 8.3/24.9/36.7/76.1/146.0 | 2.1/7.8/12.5/50.6/72.9
GMMFormer v2 | 16.2/37.6/48.8/86.4/189.1 | 8.9/27.1/40.2/78.7/154.9 | 2.5/8.6/13.9/53.2/78.2
HLFormer     | 15.7/37.1/48.5/86.4/187.7 | 8.7/27.1/40.1/79.0/154.9 | 2.6/8.5/13.7/54.0/78.7
MS-SL + RAL        | 14.5/34.3/45.8/84.5/179.1 | 7.4/23.4/35.4/76.7/143.0 | -
GMMFormer + RAL    | 15.8/36.4/47.9/86.0/186.1 | 8.4/25.1/37.2/77.0/147.7 | -
GMMFormer v2 + RAL | 18.2/40.4/52.1/88.0/198.8 | 8.9/27.7/40.4/79.1/156.1 | -
"""
_CLIP_FEATURES = """
CLIP zero-shot | 16.2/33.5/41.8/75.7/167.2 | 15.1/33.9/45.1/78.9/172.9 | 2.0/8.1/13.6/49.4/73.1
MS-SL          | 31.9/57.6/67.7/93.8/251.0 | 14.7/37.1/50.4/84.6/186.7 | 3.4/11.5/18.7/62.5/96.0
GMMFormer      | 29.8/54.2/64.6/92.5/241.1 | 15.2/37.7/50.5/83.7/187.1 | 2.7/10.5/16.7/59.4/89.3
AMDNet         | 27.7/52.3/63.3/92.3/235.6 | 14.0/36.3/49.9/84.2/184.5 | 2.1/7.8/13.9/57.2/81.1
BGM-Net        | 31.1/56.3/66.5/93.8/247.7 | 15.6/37.9/51.3/85.4/190.3 | 3.0/11.8/18.2/63.7/96.7
GMMFormer v2   | 34.0/59.7/69.8/94.5/258.1 | 17.1/40.6/53.7/85.5/196.9 | 3.1/11.6/18.2/61.4/94.2
ProtoPRVR      | 34.7/60.0/70.1/94.4/259.2 | 16.0/38.8/52.4/85.1/192.3 | -
ARL            | 34.6/60.4/70.7/94.4/260.1 | 15.3/38.4/51.5/85.2/190.4 | -
MSC            | 35.1/61.6/71.5/94.9/263.1 | 17.7/42.0/55.6/86.8/202.1 | 3.2/12.6/20.1/63.8/99.7
"""
_QVHIGHLIGHTS = """
MS-SL        | -/-/-/-/222.5
GMMFormer    | 18.2/43.7/56.7/92.5/211.1
AMDNet       | 17.4/40.8/55.0/93.4/206.6
BGM-Net      | 20.6/46.3/58.8/94.0/219.7
GMMFormer v2 | 21.7/48.0/60.5/95.0/225.2
ProtoPRVR    | 22.6/48.8/61.3/93.9/226.6
MSC          | 23.9/51.5/63.7/95.5/234.6
"""
_DATASETS = ("tvr", "activitynet", "charades")
_POOLS = {
    "tvr": ("val", "2,179 videos, 10,895 queries"),
    "charades": ("test", "1,334 videos, 3,720 queries"),
    "qvhighlights": ("val", "474 merged videos, 1,550 queries"),
}
_ACTIVITYNET = {
    _OLD: ("mssl", "4,430 videos, 15,753 queries"),
    _CLIP: ("", "4,917 videos in the MSC paper's text; the released list may be the 4,430"),
}


def _row(method: str, features: str, cell: str, pool: tuple[str, str], source: str) -> Published:
    r1, r5, r10, r100, sum_r = (math.nan if part == "-" else float(part) for part in cell.split("/"))
    return Published(method, features, r1, r5, r10, r100, sum_r, pool[0], pool[1], source)


def _parse() -> dict[str, tuple[Published, ...]]:
    rows: dict[str, list[Published]] = {name: [] for name in (*_DATASETS, "qvhighlights")}
    for table, features in ((_CLIP_FEATURES, _CLIP), (_MSSL_FEATURES, _OLD)):
        for line in table.strip().splitlines():
            method, *cells = (cell.strip() for cell in line.split("|"))
            source = _TABLE5 if features == _CLIP else "RAL's figure" if "RAL" in method else _README
            for dataset, cell in zip(_DATASETS, cells, strict=True):
                if cell != "-":
                    pool = _POOLS.get(dataset) or _ACTIVITYNET[features]
                    rows[dataset].append(_row(method, features, cell, pool, source))
    for line in _QVHIGHLIGHTS.strip().splitlines():
        method, cell = (part.strip() for part in line.split("|"))
        rows["qvhighlights"].append(_row(method, _QVH, cell, _POOLS["qvhighlights"], _PAPER))
    return {name: tuple(found) for name, found in rows.items()}


PUBLISHED: dict[str, tuple[Published, ...]] = _parse()


def expected(kind: str, gallery: str = "") -> list[dict[str, Any]]:
    """The published rows of a benchmark as dictionaries, best SumR first; empty for your own videos.

    With a `gallery`, rows known to use another one are left out: recalls on different galleries cannot be compared.
    """
    rows = [row for row in PUBLISHED.get(kind, ()) if not gallery or row.gallery in ("", gallery)]
    return [asdict(row) for row in sorted(rows, key=lambda row: -row.sum_r)]
