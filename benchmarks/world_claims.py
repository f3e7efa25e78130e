"""What the paper claims, measured on a run of world-1 against the truth the generator knows (docs/world.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from pipeline.clips.context import choose, ratio, similarities
from pipeline.clips.recipe import levels
from pipeline.config.schema import Config
from pipeline.demo.scenes import FPS, VideoSpec
from pipeline.demo.world import world
from pipeline.evaluation.inputs import load_split
from pipeline.models.checkpoint import load_model
from pipeline.ranking import gallery
from pipeline.ranking.split import Split

DRAWS = 2000
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def interval(groups: Sequence[np.ndarray], statistic: Callable[[np.ndarray], float], *, draws: int = DRAWS) -> str:
    """A statistic over values grouped by video, and its 95 % bootstrap interval: videos are drawn, not values."""
    rng = np.random.default_rng(0)
    groups = [group for group in groups if len(group)]
    if not groups:
        return "none"
    drawn = [statistic(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])) for _ in range(draws)]
    if np.isnan(drawn).all():
        return "none"
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"{statistic(np.concatenate(groups)):.3f} [{low:.3f}, {high:.3f}]"


def average(values: np.ndarray) -> float:
    return float(np.mean(values))


def correlation(values: np.ndarray) -> float:
    if (np.ptp(values, axis=0) == 0).any():
        return float("nan")  # one count for all videos: there is no order to compare
    return float(spearmanr(values[:, 0], values[:, 1]).statistic)


def same_claims(config: Config, split: Split) -> np.ndarray:
    """Which queries claim the same: [Q] int, in the split's order."""
    claims = {query.query_id: query.claim for video in world(config.demo) for query in video.queries}
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(claims[query], len(numbers)) for query in split.queries.ids])


def text_claim(config: Config, split: Split, pooled: torch.Tensor) -> list[str]:
    """Mean cosine of true synonyms (one claim, two videos), of one video's queries, of any two; how often synonyms are nearer."""
    rows = F.normalize(pooled.double(), dim=-1)
    cosine = (rows @ rows.T).numpy()
    video, claim = split.queries.video.numpy(), same_claims(config, split)
    synonym = (claim[:, None] == claim) & (video[:, None] != video)
    neighbour = (claim[:, None] != claim) & (video[:, None] == video)
    owners = [np.flatnonzero(video == v) for v in np.unique(video)]

    def of(mask: np.ndarray) -> str:
        return interval([cosine[own][mask[own]] for own in owners], average)

    def above(own: np.ndarray) -> np.ndarray:
        """How many of its video's other queries a query's synonyms are nearer than."""
        asked = [q for q in own if synonym[q].any() and neighbour[q].any()]
        shares = [float(np.mean(cosine[q][synonym[q]][:, None] > cosine[q][neighbour[q]])) for q in asked]
        return np.array(shares)

    count = len(cosine)
    any_two = f"{(cosine.sum() - count) / (count * (count - 1)):.3f}"
    return [of(synonym), of(neighbour), any_two, interval([above(own) for own in owners], average)]


def shown(spec: VideoSpec, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The scene in the middle of every row: [N] int; -1 for padding."""
    middle = (start + end) / 2 * FPS
    borders = np.array([scene.end for scene in spec.scenes])
    return np.where(np.isfinite(middle), np.searchsorted(borders, np.nan_to_num(middle), side="right").clip(0, len(borders) - 1), -1)


def video_claim(config: Config, split: Split, frames: torch.Tensor) -> list[str]:
    """Mean cosine of frames of one event, of two events of one video, and the difference, by video."""
    specs = {video.video_id: video for video in world(config.demo)}
    inside, across = [], []
    for i, video in enumerate(split.videos.ids):
        scene = shown(specs[video], split.videos.start[i], split.videos.end[i])
        event = np.array([s if s >= 0 and specs[video].scenes[s].subject else -1 for s in scene])
        kept = np.flatnonzero(event >= 0)
        rows = F.normalize(frames[i, kept].double(), dim=-1)
        cosine = (rows @ rows.T).numpy()
        same = event[kept][:, None] == event[kept]
        inside.append(cosine[same & ~np.eye(len(kept), dtype=bool)])
        across.append(cosine[~same])
    difference = [np.array([a.mean() - b.mean()]) for a, b in zip(inside, across, strict=True) if len(a) and len(b)]
    return [interval(inside, average, draws=200), interval(across, average, draws=200), interval(difference, average)]


def branches_claim(split: Split, frames: torch.Tensor, clips: torch.Tensor) -> str:
    """Share of the frames that are nearer to the clip they were merged into than to any other of their video: what alignment is for.

    Shapes: `frames` [B, F, H], `clips` [B, C, H], of the two branches. A model with other tokens has none.
    """
    owner = split.videos.frame_to_clip.long()
    if frames.shape[1] != owner.shape[1] or clips.shape[1] != split.videos.sizes.shape[1]:
        return "-"
    cosine = F.normalize(frames, dim=-1) @ F.normalize(clips, dim=-1).mT
    nearest = cosine.masked_fill(split.videos.sizes[:, None] == 0, -torch.inf).argmax(2)
    counts = split.videos.frame_count.tolist()
    return interval([(nearest[i, :n] == owner[i, :n]).numpy().astype(float) for i, n in enumerate(counts)], average, draws=200)


def borders(config: Config, split: Split) -> tuple[list[str], list[str]]:
    """F1 of the borders between clips against those between scenes (one pooled frame of tolerance): as merged, and of equal parts."""
    specs = {video.video_id: video for video in world(config.demo)}
    found: dict[str, list[np.ndarray]] = {"merged": [], "equal": []}
    for i, video in enumerate(split.videos.ids):
        count = int(split.videos.frame_count[i])
        scene = shown(specs[video], split.videos.start[i][:count], split.videos.end[i][:count])
        true = np.flatnonzero(np.diff(scene)) + 1
        clip = split.videos.frame_to_clip[i, :count].numpy().astype(int)
        cuts = np.flatnonzero(np.diff(clip)) + 1
        equal = np.unique((np.arange(1, len(cuts) + 1) * count / (len(cuts) + 1)).round().astype(int))
        for name, guess in (("merged", cuts), ("equal", equal)):
            near = np.abs(guess[:, None] - true) <= 1
            precision, recall = near.any(1).mean(), near.any(0).mean()
            found[name].append(np.array([2 * precision * recall / max(precision + recall, 1e-9)]))
    return [interval(found["merged"], average)], [interval(found["equal"], average)]


def true_contexts(config: Config) -> dict[str, int]:
    """video id -> its number of backgrounds."""
    return {video.video_id: len({scene.ground for scene in video.scenes}) for video in world(config.demo)}


def contexts(config: Config, split: Split) -> str:
    """Rank correlation of a video's number of contexts, as counted from its clips, with the number it truly has."""
    truth = true_contexts(config)
    pairs = [
        np.array([[len(np.unique(context[size > 0])), truth[video]]])
        for video, context, size in zip(split.videos.ids, split.videos.context.numpy(), split.videos.sizes.numpy(), strict=True)
    ]
    return interval(pairs, correlation)


def by_threshold(config: Config, experiment: str) -> list[str]:
    """Clips alike at each threshold and contexts counted so, each with its rank correlation with the true number."""
    chosen, split = config.experiment(experiment), load_split(config, experiment)
    counts = torch.tensor(levels(chosen.clips, chosen.variant))
    known = true_contexts(config)
    truth = [known[video] for video in split.videos.ids]
    similar = similarities(split.videos.clips)
    rows = []
    for tau in THRESHOLDS:
        share = ratio(similar, tau, chosen.clips.context_ratio)
        counted = counts[choose(share, len(counts), chosen.clips.context_choice)]
        pairs = [
            interval([np.array([[value, true]]) for value, true in zip(values, truth, strict=True)], correlation)
            for values in ((-share).tolist(), counted.tolist())
        ]
        rows.append([f"{tau:.2f}", f"{share.mean():.2f}", f"{counted.float().mean():.1f}", *pairs])
    return table(["threshold", "clips alike", "contexts", "correlation of 1 - alike", "correlation of contexts"], rows)


CLAIMS = (
    "synonyms",
    "one video's queries",
    "any two",
    "synonyms nearer than one's own neighbours",
    "frames of one event",
    "of two events",
    "difference",
    "frames nearest to their own clip",
    "clip borders, F1",
    "equal parts, F1",
    "contexts counted, rank correlation",
)


def measured(config: Config, experiment: str, seed: int) -> list[str]:
    """The values of `CLAIMS` of one run."""
    torch.set_num_threads(config.runtime.threads)  # as a job does: more wait for one another on a busy machine
    model, _, _ = load_model(config.layout.checkpoint(experiment, seed), experiment=experiment, seed=seed)
    split = load_split(config, experiment)
    queries, videos = gallery.encode(model, split, torch.device("cpu"))
    text = text_claim(config, split, queries["pooled"]) if "pooled" in queries else ["-"] * 4
    frames = video_claim(config, split, videos["frames"].float()) if "frames" in videos else ["-"] * 3
    both = {"frames", "clips"} <= videos.keys()
    aligned = branches_claim(split, videos["frames"].float(), videos["clips"].float()) if both else "-"
    merged, equal = borders(config, split)
    return [*text, *frames, aligned, *merged, *equal, contexts(config, split)]


def claims(values: Mapping[str, Sequence[str]]) -> list[str]:
    """The four measurements, a column per experiment."""
    return table(["", *values], [[name, *(column[i] for column in values.values())] for i, name in enumerate(CLAIMS)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
