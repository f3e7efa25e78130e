"""Experiment trackers: the numbers of a run, reported to TensorBoard, Weights & Biases, trackio or MLflow on this machine.

A library is imported only where it is asked for. Nothing is sent anywhere unless the library's own environment variables say so
(docs/tracking.md). What a tracker does decides no result, and whatever goes wrong in one is a warning.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Protocol

from pipeline.core.errors import LibraryError
from pipeline.core.notices import say
from pipeline.core.provenance import flat

PARAMS_AT_ONCE, LONGEST_PARAM = 100, 500  # what MLflow takes
_QUIET = {
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
}


class Backend(Protocol):
    """What is asked of a library."""

    def log(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def check(library: str) -> None:
    """Refuse a tracker whose library is not installed; nothing is imported. Errors: LibraryError."""
    # A folder of that name, as wandb leaves one where it runs, looks like a package without a file.
    spec = None if library == "none" else importlib.util.find_spec(library)
    if library != "none" and (spec is None or spec.origin is None):
        raise LibraryError(
            f"{library} is not installed", where=f"tracking: {library}", fix=f"pip install {library}; or set `tracking: none`"
        )


def named(row: Mapping[str, float]) -> dict[str, float]:
    """The numbers of an epoch under the names they are reported by: `validation/` what was measured, `train/` the rest."""
    measured = ("R@", "SumR")
    return {f"{'validation' if key.startswith(measured) else 'train'}/{key}": value for key, value in row.items() if key != "epoch"}


class Tracker:
    """One run at one library, or at none; its first failure is a warning, and the end of it."""

    def __init__(self, library: str, folder: Path, run: Mapping[str, Any], settings: Mapping[str, Any], first: int | None) -> None:
        self._library, self._backend = library, None
        if library == "none":
            return
        with self._guarded():
            for name, value in _QUIET.items():
                os.environ.setdefault(name, value)
            (folder / library).mkdir(parents=True, exist_ok=True)
            self._backend = _BACKENDS[library]((folder / library).resolve(), run, settings, first)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Report the numbers of an epoch."""
        if self._backend is not None:
            with self._guarded():
                self._backend.log(step, values)

    def close(self) -> None:
        if self._backend is not None:
            with self._guarded():
                self._backend.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Goes on without the tracker when it fails. What it prints goes to the job's log."""
        try:
            with redirect_stdout(sys.stderr):
                yield
        except (Exception, SystemExit) as error:
            self._backend = None
            said = (str(error).splitlines() or [""])[0][:200]
            say(f"warning: {self._library} failed, this run is not tracked any further: {type(error).__name__}: {said}")


@contextmanager
def started(
    library: str, folder: Path, run: Mapping[str, Any], settings: Mapping[str, Any] | None = None, first: int | None = 0
) -> Iterator[Tracker]:
    """A tracker of one run, closed at the end. `run` names it: dataset, experiment, seed, run (the hash of its recipe).

    `first`: the epochs that are done already, after which this process goes on; None to add to a run that is finished.
    """
    tracker = Tracker(library, folder, run, settings or {}, first)
    try:
        yield tracker
    finally:
        tracker.close()


def _name(run: Mapping[str, Any]) -> str:
    return f"{run['experiment']}-seed{run['seed']}-{run['run']}"


class _TensorBoard:
    """Event files in a folder for each run. Epochs that a killed process reported, and that are trained again, are purged."""

    def __init__(self, folder: Path, run: Mapping[str, Any], settings: Mapping[str, Any], first: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / _name(run)), purge_step=None if first is None else first + 1)
        if first == 0:
            rows = [f"| {key} | {value} |" for key, value in [*run.items(), *flat(settings).items()]]
            self._writer.add_text("run", "\n".join(["| key | value |", "| --- | --- |", *rows]), 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """An offline run, unless WANDB_MODE says otherwise; `wandb sync` sends it."""

    def __init__(self, folder: Path, run: Mapping[str, Any], settings: Mapping[str, Any], first: int | None) -> None:
        import wandb

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run: Any = wandb.init(
            project=run["dataset"],
            id=f"{run['dataset']}-{_name(run)}"[-64:],
            name=_name(run),
            group=run["experiment"],
            dir=str(folder),
            mode=mode,
            resume="allow",
            config={**run, **settings} if settings else None,
        )
        self._run.define_metric("*", step_metric="epoch")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"epoch": step, **values})

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """A local database, unless TRACKIO_SPACE_ID names a space; `trackio show` opens it."""

    def __init__(self, folder: Path, run: Mapping[str, Any], settings: Mapping[str, Any], first: int | None) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(folder))
        import trackio

        self._library: Any = trackio
        values = {key: str(value) if isinstance(value, list | dict) else value for key, value in flat({**run, **settings}).items()}
        trackio.init(project=run["dataset"], name=_name(run), resume="allow", config=values if settings else None, embed=False)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._library.log(dict(values), step=step)

    def close(self) -> None:
        self._library.finish()


class _MLflow:
    """A folder of files, unless MLFLOW_TRACKING_URI names a server; `mlflow ui` opens it."""

    def __init__(self, folder: Path, run: Mapping[str, Any], settings: Mapping[str, Any], first: int | None) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", folder.as_uri()))
        known = self._client.get_experiment_by_name(run["dataset"])
        experiment = known.experiment_id if known else self._client.create_experiment(run["dataset"])
        former = self._client.search_runs([experiment], f"tags.prvr_run = '{_name(run)}'", max_results=1)
        tags = {**{key: str(value) for key, value in run.items()}, "prvr_run": _name(run)}
        self._run = former[0].info.run_id if former else self._client.create_run(experiment, tags=tags, run_name=_name(run)).info.run_id
        params = [Param(key, str(value)[:LONGEST_PARAM]) for key, value in flat(settings).items()] if not former else []
        for start in range(0, len(params), PARAMS_AT_ONCE):
            self._client.log_batch(self._run, params=params[start : start + PARAMS_AT_ONCE])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        import time

        now = int(time.time() * 1000)
        # It takes no @ in a name.
        self._client.log_batch(self._run, [self._metric(name.replace("@", "_at_"), value, now, step) for name, value in values.items()])

    def close(self) -> None:
        self._client.set_terminated(self._run)


_BACKENDS: dict[str, type[Any]] = {"tensorboard": _TensorBoard, "wandb": _Wandb, "trackio": _Trackio, "mlflow": _MLflow}
