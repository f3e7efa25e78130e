"""Commands that read and write other code's files: feature bundles and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import load
from pipeline.core.errors import BundleError
from pipeline.core.install import run_command
from pipeline.interchange.teachers import Teacher

Experiment = Annotated[str, typer.Option("--experiment", help="An experiment of the configuration.")]
Seed = Annotated[int, typer.Option("--seed", help="The seed of the run.")]
VideoEncoder = Annotated[str, typer.Option("--video", help="Encoder name the features go under.")]
TextEncoder = Annotated[str, typer.Option("--text", help="Encoder name the queries go under.")]


def register(app: typer.Typer) -> None:
    """Add the exchange commands."""
    app.command("import")(import_bundle)
    app.command("export")(export_bundle)
    app.command("import-checkpoint")(import_checkpoint)
    app.command("export-checkpoint")(export_checkpoint)


def import_bundle(
    bundle: Annotated[
        Path, typer.Argument(help="The bundle's folder: `TextData` and `FeatureData`, or with --npz the folder of the text npz files.")
    ],
    video: VideoEncoder,
    text: TextEncoder,
    config: Config = "config.yaml",
    video_file: Annotated[
        str | None, typer.Option("--video-file", help="Which feature file, by its stem, where there are several.")
    ] = None,
    text_file: Annotated[str | None, typer.Option("--text-file", help="Which query file, by its stem, where there are several.")] = None,
    npz: Annotated[list[Path] | None, typer.Option("--npz", help="A folder of npz features; repeat for several encoders.")] = None,
    annotations: Annotated[
        list[str] | None, typer.Option("--annotations", help="With --npz: split=file.jsonl; repeat for several splits.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="With --npz: join the clips cut from one source video (QVHighlights).")] = False,
    teacher: Annotated[Teacher, typer.Option("--teacher", help="What the sentence vector of a query is.")] = "auto",
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Go on without the captions and videos the bundle lacks.")] = False,
) -> None:
    """Read a published feature bundle (MSC, MS-SL, or npz folders of moment_detr, HERO, lighthouse) into the store."""
    from pipeline.interchange import captioned, importing
    from pipeline.interchange.npz import open_npz

    settings = load(config)
    if npz:
        splits = dict(part.split("=", 1) for part in annotations or [] if "=" in part)
        if not splits:
            raise BundleError(
                "npz features come with annotation files", fix="give --annotations train=FILE.jsonl --annotations test=FILE.jsonl"
            )
        opened = open_npz({split: Path(file) for split, file in splits.items()}, npz, bundle, merge=merge)
    else:
        opened = captioned.open_captioned(bundle, video=video_file, text=text_file)
    with opened as opened_bundle:
        findings = importing.import_bundle(
            opened_bundle,
            settings,
            settings.layout,
            video=video,
            text=text,
            teacher=teacher,
            allow_missing=allow_missing,
        )
    print(findings.text())


def export_bundle(
    target: Annotated[Path, typer.Argument(help="The folder to write.")],
    video: Annotated[list[str], typer.Option("--video", help="Encoder whose features to write; repeat to set several side by side.")],
    text: TextEncoder,
    config: Config = "config.yaml",
    kind: Annotated[str, typer.Option("--kind", help="msc, mssl or npz.")] = "msc",
    collection: Annotated[
        str, typer.Option("--collection", help="The collection's name in the file names; by default the dataset's.")
    ] = "",
    rename: Annotated[list[str] | None, typer.Option("--rename", help="ours=theirs for split names, e.g. test=val; repeat.")] = None,
) -> None:
    """Write features, query states and caption lists as the released code reads them."""
    from pipeline.interchange import exporting

    settings = load(config)
    layout = settings.layout
    if kind == "npz":
        exporting.export_npz(layout, target, video=video, text=text)
    else:
        names = dict(part.split("=", 1) for part in rename or [])
        exporting.export_captioned(
            layout, target, video=video, text=text, collection=collection or settings.dataset.name, kind=kind, rename=names or None
        )
    print(f"wrote {target}")


def import_checkpoint(
    path: Annotated[Path, typer.Argument(help="A released best.ckpt; no code in it is run.")],
    experiment: Experiment,
    seed: Seed = 9527,
    config: Config = "config.yaml",
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that was trained here.")] = False,
) -> None:
    """Turn a released checkpoint into a run that can be evaluated and searched, and that no job trains, replaces or removes."""
    from pipeline.core.atomic import write_json
    from pipeline.core.provenance import sha256
    from pipeline.interchange import checkpoints
    from pipeline.jobs.checks import widths
    from pipeline.jobs.collection import Collection

    settings = load(config)
    layout, mark = settings.layout, settings.layout.imported(experiment, seed)
    written = layout.checkpoint(experiment, seed)
    if written.exists() and not mark.exists() and not force:
        raise BundleError(
            f"{experiment}, seed {seed}, was trained here, and importing would replace its weights",
            where=written,
            fix="import under another experiment or seed, or give --force",
        )
    collection = Collection.of(settings)
    checkpoints.import_checkpoint(
        settings, layout, experiment, seed, path, lambda dims: widths(collection, experiment, dims._asdict(), path)
    )
    write_json(mark, {"file": path.name, "sha256": sha256(path)})
    print(f"wrote {written}")
    if settings.experiment(experiment).clips.dtype == "float16":
        print(
            "note: clips are stored in float16, which can move a rank by one against the lender's own evaluation; "
            "`clips: {dtype: float32}` in this experiment keeps them as they were computed"
        )
    print(f"next: {run_command(config)}")


def export_checkpoint(
    path: Annotated[Path, typer.Argument(help="The checkpoint file to write.")],
    experiment: Experiment,
    seed: Seed = 9527,
    config: Config = "config.yaml",
    like: Annotated[Path | None, typer.Option("--like", help="A released checkpoint that lends its configuration.")] = None,
) -> None:
    """Write a run as a checkpoint that the released code evaluates (docs/interchange.md)."""
    from pipeline.interchange import checkpoints

    left_out = checkpoints.export_checkpoint(load(config).layout, experiment, seed, path, like=like)
    print(f"wrote {path}")
    for line in left_out:
        print(f"left out of what {like} lends, for it would be run when the file is opened: {line}")
