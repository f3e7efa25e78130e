"""What a newcomer should know about a run before it starts."""

from __future__ import annotations

from pipeline.config.method import Experiment

SMALL_SET = 1000  # videos; the collapse was seen on 400, the smallest published set has 2,214
FAST, WIDE = 1.5e-4, 384


def advice(settings: Experiment, *, videos: int, queries: int) -> list[str]:
    """One sentence for every setting that is known to fit badly to a set of this size, or that readers of the result must know.

    Source: docs/method.md 7.3 (selection), 10 (collapse on small sets).
    """
    options, notes = settings.training, []
    steps = -(-videos // options.batch_videos)
    if videos < SMALL_SET and settings.model.hidden >= WIDE and options.learning_rate > FAST:
        notes.append(
            f"model.hidden {settings.model.hidden} with training.learning_rate {options.learning_rate:g} can collapse on {videos} videos: "
            "1e-4 or hidden 128 learn where it did"
        )
    if steps == 1 and videos > 1:
        notes.append(
            f"one batch holds all {videos} videos, so an epoch is one step and {options.epochs} epochs are {options.epochs} steps: "
            f"lower training.batch_videos (say {max(2, videos // 10)})"
        )
    if videos == 1:
        notes.append("there is one training video: no video is a negative of another, and only its queries' relations are learnt")
    if queries == videos and settings.objectives.tcpl.distance + settings.objectives.tcpl.angle == 0:
        notes.append("every video has one query: nothing tells the queries of a video apart; objectives.tcpl would")
    if options.selection_split == settings.evaluation.split:
        notes.append(
            f"the epoch is chosen on {options.selection_split!r}, the split that is reported, as the field does: "
            "recalls are a little too good; training.selection_split can name another one"
        )
    return notes
