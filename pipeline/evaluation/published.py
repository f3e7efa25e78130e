"""Published numbers of the benchmarks, to stand beside one's own. A dagger: reproduced by the MSC authors."""

from __future__ import annotations

from typing import NamedTuple

COLUMNS = ("R@1", "R@5", "R@10", "R@100", "SumR")


class Published(NamedTuple):
    """One line of a paper's table: method, video and text features, R@1, R@5, R@10, R@100, SumR in percent (None: not given), source."""

    method: str
    features: str
    values: tuple[float | None, ...]
    source: str


def _only_sum(value: float) -> tuple[float | None, ...]:
    return (None, None, None, None, value)


_CLIP_L = {
    "tvr": {
        "CLIP zero-shot": (16.2, 33.5, 41.8, 75.7, 167.2),
        "MS-SL": (31.9, 57.6, 67.7, 93.8, 251.0),
        "GMMFormer": (29.8, 54.2, 64.6, 92.5, 241.1),
        "AMDNet": (27.7, 52.3, 63.3, 92.3, 235.6),
        "BGM-Net": (31.1, 56.3, 66.5, 93.8, 247.7),
        "GMMFormer v2 †": (34.0, 59.7, 69.8, 94.5, 258.1),
        "ProtoPRVR": (34.7, 60.0, 70.1, 94.4, 259.2),
        "ARL": (34.6, 60.4, 70.7, 94.4, 260.1),
        "MSC": (35.1, 61.6, 71.5, 94.9, 263.1),
    },
    "activitynet": {
        "CLIP zero-shot": (15.1, 33.9, 45.1, 78.9, 172.9),
        "MS-SL": (14.7, 37.1, 50.4, 84.6, 186.7),
        "GMMFormer": (15.2, 37.7, 50.5, 83.7, 187.1),
        "AMDNet": (14.0, 36.3, 49.9, 84.2, 184.5),
        "BGM-Net": (15.6, 37.9, 51.3, 85.4, 190.3),
        "GMMFormer v2 †": (17.1, 40.6, 53.7, 85.5, 196.9),
        "ProtoPRVR": (16.0, 38.8, 52.4, 85.1, 192.3),
        "ARL": (15.3, 38.4, 51.5, 85.2, 190.4),
        "MSC": (17.7, 42.0, 55.6, 86.8, 202.1),
    },
    "charades": {
        "CLIP zero-shot †": (2.0, 8.1, 13.6, 49.4, 73.1),
        "MS-SL †": (3.4, 11.5, 18.7, 62.5, 96.0),
        "GMMFormer †": (2.7, 10.5, 16.7, 59.4, 89.3),
        "AMDNet †": (2.1, 7.8, 13.9, 57.2, 81.1),
        "BGM-Net †": (3.0, 11.8, 18.2, 63.7, 96.7),
        "GMMFormer v2 †": (3.1, 11.6, 18.2, 61.4, 94.2),
        "MSC": (3.2, 12.6, 20.1, 63.8, 99.7),
    },
}
_CNN = {
    "tvr": {
        "MS-SL": (13.5, 32.1, 43.4, 83.4, 172.3),
        "DL-DKD": (14.4, 34.9, 45.8, 84.9, 179.9),
        "GMMFormer": (13.9, 33.3, 44.5, 84.9, 176.6),
        "GMMFormer v2": (16.2, 37.6, 48.8, 86.4, 189.1),
        "HLFormer": (15.7, 37.1, 48.5, 86.4, 187.7),
        "GMMFormer v2 + RAL": (18.2, 40.4, 52.1, 88.0, 198.8),
    },
    "activitynet": {
        "MS-SL": (7.1, 22.5, 34.7, 75.8, 140.1),
        "DL-DKD": (8.0, 25.0, 37.5, 77.1, 147.6),
        "GMMFormer": (8.3, 24.9, 36.7, 76.1, 146.0),
        "GMMFormer v2": (8.9, 27.1, 40.2, 78.7, 154.9),
        "HLFormer": (8.7, 27.1, 40.1, 79.0, 154.9),
        "GMMFormer v2 + RAL": (8.9, 27.7, 40.4, 79.1, 156.1),
    },
    "charades": {
        "MS-SL": (1.8, 7.1, 11.8, 47.7, 68.4),
        "GMMFormer": (2.1, 7.8, 12.5, 50.6, 72.9),
        "GMMFormer v2": (2.5, 8.6, 13.9, 53.2, 78.2),
        "HLFormer": (2.6, 8.5, 13.7, 54.0, 78.7),
    },
}
_QVHIGHLIGHTS = {
    "MS-SL": _only_sum(222.5),
    "GMMFormer": (18.2, 43.7, 56.7, 92.5, 211.1),
    "AMDNet": (17.4, 40.8, 55.0, 93.4, 206.6),
    "BGM-Net": (20.6, 46.3, 58.8, 94.0, 219.7),
    "GMMFormer v2 †": (21.7, 48.0, 60.5, 95.0, 225.2),
    "ProtoPRVR": (22.6, 48.8, 61.3, 93.9, 226.6),
    "MSC": (23.9, 51.5, 63.7, 95.5, 234.6),
    "MSC's rows: baseline": _only_sum(225.5),
    "MSC's rows: + TCPL": _only_sum(230.6),
    "MSC's rows: + naive CBVA": _only_sum(231.0),
    "MSC's rows: + OP-ToMe": _only_sum(232.5),
}
NOTES = {
    "activitynet": "The galleries behind these numbers are not stated alike (4,430 or 4,917 videos): compare with the gallery named above.",
    "tvr": "The published test set is TVR's validation set, on which the epoch was chosen too.",
    "qvhighlights": "474 videos, the 150 s clips of one source joined; numbers on un-merged clips (ProPy) are not comparable.",
}


def published(kind: str) -> list[Published]:
    """What was published on a dataset, CLIP features first; empty for datasets that are no benchmark."""
    if kind == "qvhighlights":
        return [Published(name, "CLIP-B + SlowFast", values, "MSC paper") for name, values in _QVHIGHLIGHTS.items()]
    convolutional = "ResNet152+I3D, RoBERTa" if kind == "tvr" else "I3D, RoBERTa"
    rows = [Published(name, "CLIP-L/14", values, "MSC Table 5") for name, values in _CLIP_L.get(kind, {}).items()]
    return rows + [Published(name, convolutional, values, "repositories' READMEs") for name, values in _CNN.get(kind, {}).items()]
