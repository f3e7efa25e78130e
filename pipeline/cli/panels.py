"""What `prvr --help` lists, in which order. A command that is not named here is a job's own: the workflow calls it, help hides it."""

from __future__ import annotations

import typer

PANELS: dict[str, tuple[str, ...]] = {
    "From videos to answers": ("index", "init", "plan", "run", "search", "serve", "report", "doctor"),
    "While it runs, and after": ("status", "summary", "runs", "quarantine", "verify", "unlock"),
    "What it is made of": ("weights", "config", "files", "demo"),
    "To and from other code": ("import", "export", "import-checkpoint", "export-checkpoint", "features"),
}


def arrange(app: typer.Typer) -> None:
    """Put the commands in the order and under the headings of PANELS, and hide the others."""
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    places = list(panels)
    for known in (app.registered_commands, app.registered_groups):
        known.sort(key=lambda info: places.index(name) if (name := named(info)) in panels else len(places))
        for info in known:
            info.rich_help_panel, info.hidden = panels.get(named(info)), named(info) not in panels


def named(info: typer.models.CommandInfo | typer.models.TyperInfo) -> str:
    """What a command or group is called on the command line."""
    return info.name or (info.callback.__name__.replace("_", "-") if info.callback else "")
