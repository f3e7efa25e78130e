"""Commands that read and write other code's files: feature bundles and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import load
from pipeline.core.errors import BundleError, ConfigError
from pipeline.core.install import run_command
from pipeline.interchange.teachers import Teacher

if TYPE_CHECKING:
    from pipeline.config.schema import Config as Settings
    from pipeline.models.base import Dims

Kind = Literal["msc", "mssl", "npz", "hub", "parquet"]
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
    video: Annotated[
        list[str] | None, typer.Option("--video", help="Encoder whose features to write; repeat to set several side by side.")
    ] = None,
    text: Annotated[str, typer.Option("--text", help="Encoder whose query states to write.")] = "",
    config: Config = "config.yaml",
    kind: Annotated[
        Kind,
        typer.Option(
            "--layout",
            "--kind",
            help="msc, mssl, npz: what released code reads. hub: a trained run for the Hugging Face hub. "
            "parquet: features and results, of all encoders and runs unless --video and --text name some.",
        ),
    ] = "msc",
    collection: Annotated[
        str, typer.Option("--collection", help="The collection's name in the file names; by default the dataset's.")
    ] = "",
    rename: Annotated[list[str] | None, typer.Option("--rename", help="ours=theirs for split names, e.g. test=val; repeat.")] = None,
    experiment: Annotated[str, typer.Option("--experiment", help="With hub: the run; by default the first experiment.")] = "",
    seed: Annotated[int | None, typer.Option("--seed", help="With hub: its seed; by default the first one.")] = None,
    licence: Annotated[str, typer.Option("--license", help="With hub and parquet: the licence by the hub's name, yours to choose.")] = "",
    push: Annotated[str, typer.Option("--push", help="With hub and parquet: print how to send it to this repository.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="With --push: send it now, to a private repository.")] = False,
) -> None:
    """Write features, query states and captions as released code reads them; or a run, or features and results, for others to use."""
    from pipeline.interchange import exporting

    settings = load(config)
    layout = settings.layout
    if kind in ("hub", "parquet"):
        if kind == "hub":
            _to_hub(settings, target, experiment, seed, licence)
        else:
            _to_parquet(settings, target, video, text, licence)
        print(f"wrote {target}")
        if push:
            _push(push, target, "model" if kind == "hub" else "dataset", yes)
        return
    if not video or not text:
        raise typer.BadParameter(f"--layout {kind} needs --video and --text")
    if kind == "npz":
        exporting.export_npz(layout, target, video=video, text=text)
    else:
        names = dict(part.split("=", 1) for part in rename or [])
        exporting.export_captioned(
            layout, target, video=video, text=text, collection=collection or settings.dataset.name, kind=kind, rename=names or None
        )
    print(f"wrote {target}")


def _to_hub(settings: Settings, target: Path, experiment: str, seed: int | None, licence: str) -> None:
    from pipeline.interchange.hub import export_hub
    from pipeline.jobs import recipes

    name = experiment or next(iter(settings.experiments))
    if name not in settings.models:
        raise ConfigError(f"there is no experiment {name!r}", where="--experiment", fix=f"name one of: {', '.join(settings.models)}")
    chosen = settings.experiment(name)
    made_by = {encoder: recipes.text(settings, encoder) for encoder in (chosen.text, chosen.teacher) if encoder}
    made_by |= {encoder: recipes.features(settings, encoder) for encoder in chosen.encoders}
    export_hub(settings, settings.layout, name, settings.seeds[0] if seed is None else seed, target, made_by, licence)


def _to_parquet(settings: Settings, target: Path, video: list[str] | None, text: str, licence: str) -> None:
    from pipeline.interchange.parquet import export_parquet
    from pipeline.jobs.collection import TARGETS

    layout, runs = settings.layout, [run for group in TARGETS for run in settings.group(group)]
    stored = [name for name in settings.encoders if any(layout.features(name, "*").parent.glob("*.h5"))]
    texts = [name for name in settings.encoders if layout.text(name).exists()]
    if absent := [name for name in (*(video or ()), *([text] if text else ())) if name not in settings.encoders]:
        raise ConfigError(f"there is no encoder {absent[0]!r}", where=settings.source, fix=f"name one of: {', '.join(settings.encoders)}")
    export_parquet(
        layout,
        target,
        video=video or stored,
        text=[text] if text else texts,
        runs=list(dict.fromkeys(runs)),
        name=settings.dataset.name,
        demo=settings.dataset.kind == "demo",
        licence=licence,
    )


def _push(repo: str, folder: Path, kind: str, yes: bool) -> None:
    from pipeline.interchange import hub

    if yes:
        print(f"sent to {hub.push(repo, folder, kind)}")
    else:
        print(f"to send it (nothing was sent): {hub.push_command(repo, folder, kind)}")


def import_checkpoint(
    path: Annotated[
        Path,
        typer.Argument(
            help="A released best.ckpt, a checkpoint.h5 of ours, or a folder of `prvr export --layout hub`; no code in any of them is run."
        ),
    ],
    experiment: Experiment,
    seed: Seed = 9527,
    config: Config = "config.yaml",
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that was trained here.")] = False,
) -> None:
    """Turn a checkpoint from elsewhere into a run that can be evaluated and searched, and that no job trains, replaces or removes."""
    from pipeline.core import kept
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
    collection, former = Collection.of(settings), ""

    def replace(dims: Dims) -> None:
        """The checkpoint is sound and about to be written."""
        nonlocal former
        widths(collection, experiment, dims._asdict(), path)
        former = kept.keep(layout, experiment, seed, "", settings.runtime.keep_runs)

    if path.is_dir():
        from pipeline.interchange.hub import WEIGHTS, import_hub

        differ = import_hub(settings, layout, experiment, seed, path, replace)
        write_json(mark, {"file": path.resolve().name, "sha256": sha256(path / WEIGHTS)})
    else:
        differ = []
        checkpoints.import_checkpoint(settings, layout, experiment, seed, path, replace)
        write_json(mark, {"file": path.name, "sha256": sha256(path)})
    print(f"wrote {written}")
    for line in differ:
        print(f"note: it was measured otherwise: {line}")
    if former == kept.hash_of(layout, experiment, seed):
        kept.remove(layout.kept(experiment, seed, former))  # the same file once more
    elif former:
        print(f"the run that was here is kept as {former} (`prvr runs`)")
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
