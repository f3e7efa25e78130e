"""Every "to do" that names a command, or has something deleted, is executed by a test. A new one without its test fails here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
# What the reader is told to type or to delete. Other fixes (a key to correct, a file to fetch) are for the reader to carry out.
ACTION = re.compile(
    r"`(?:prvr|snakemake|pip|hf)\b|`\{command|run the workflow again|run again|\bdelete|(?<!leave )--[a-z]|pip install|hf download"
)
WORKFLOW = "tests/workflow/test_ways_out.py"
MADE_AGAIN = f"{WORKFLOW}::test_damaged_files_are_deleted_and_made_again"
BEFORE = "tests/workflow/test_before_jobs.py"
SEARCHED = "tests/workflow/test_index.py::test_a_folder_without_captions_is_searched_by_the_frozen_encoder"
IMPORTS = "tests/interchange/test_ways_out.py::test_imports"

# module:function -> what it says (its beginning is enough) -> the test that does it.
CASES: dict[str, dict[str, str]] = {
    "cli.exchange:import_bundle": {"give --annotations": "tests/interchange/test_ways_out.py::test_npz_come_with_their_annotations"},
    "cli.exchange:import_checkpoint": {
        "import under another": "tests/workflow/test_staleness.py::test_no_job_trains_or_removes_an_imported_checkpoint"
    },
    "cli.run:_check": {"name one that is there": "tests/cli/test_run.py::test_what_a_missing_configuration_asks_for"},
    "cli.run:_config_here": {"{named}write one": "tests/cli/test_run.py::test_what_a_missing_configuration_asks_for"},
    "cli.runs:remove": {"name kept runs": "tests/tools/test_runs.py::test_listed_compared_searched_and_removed"},
    "cli.stages:train": {"train under another": f"{WORKFLOW}::test_an_imported_checkpoint_that_is_gone"},
    "clips.grids:check_videos": {"run the workflow again": f"{WORKFLOW}::test_a_video_that_one_encoder_lacks"},
    "config.reading:read": {
        "give an existing file": "tests/cli/test_run.py::test_what_a_missing_configuration_asks_for",
        "run the workflow again": "tests/jobs/test_upkeep.py::test_a_changed_published_configuration_is_refused_and_written_anew",
    },
    "core.errors:system_error": {"{fixes[number]}": "tests/workflow/test_interruption.py::test_disk_full"},
    "core.store.ragged:damaged": {"delete the file": MADE_AGAIN},
    "core.store.reader:Reader.array": {"delete the file": MADE_AGAIN},
    "core.store.reader:Reader.mapped": {"delete the file": MADE_AGAIN},
    "core.store.reader:Reader._check": {"delete the file": MADE_AGAIN},
    "core.store.reader:_foreign": {"published bundles": MADE_AGAIN},
    "core.store.reader:_ours": {"delete the file": MADE_AGAIN},
    "core.store.reader:_version": {"delete the file": MADE_AGAIN},
    "core.store.reader:open_store": {
        "run the workflow again": "tests/workflow/test_staleness.py::test_what_a_message_asks_for_makes_the_lost_file_again",
        "delete the file": MADE_AGAIN,
    },
    "core.tracking:check": {"pip install": "tests/core/test_tracking.py::test_a_missing_library_is_said_with_its_command"},
    "datasets.own:read": {"mend these rows": "tests/datasets/test_own.py::test_mended_rows_are_read"},
    "encoders.stage:_count": {"run the workflow again": "tests/workflow/test_rerun.py::test_exactly_these_jobs_run"},
    "encoders.transformers:load": {"pip install": "tests/test_fixes.py::test_extras_that_messages_name"},
    "encoders.weights:_fix": {
        "; from the hub: hf download": "tests/encoders/test_weights.py::test_the_file_a_message_names_is_found_where_it_says"
    },
    "evaluation.table:run_table": {"run `{command}`": f"{WORKFLOW}::test_a_run_that_the_default_target_does_not_train"},
    "interchange.checks:require": {"correct the bundle": "tests/interchange/test_bundles.py::test_missing_videos_may_be_left_out"},
    "interchange.exporting:_texts": {"delete the file": "tests/interchange/test_ways_out.py::test_an_export_of_queries_without_states"},
    "interchange.exporting:export_captioned": {
        "give another --collection": "tests/interchange/test_bundles.py::test_export_needs_a_collection_that_names_a_file"
    },
    "interchange.hub:_read": {"give a folder": "tests/interchange/test_hub.py::test_there_and_back_the_same_bits_and_the_same_numbers"},
    "interchange.hub:push": {"pip install": "tests/interchange/test_hub.py::test_sending_is_printed_and_done_only_when_asked"},
    "interchange.parquet:_arrow": {"pip install": "tests/test_fixes.py::test_extras_that_messages_name"},
    "jobs.checks:_not_lost": {"import it again": f"{WORKFLOW}::test_an_imported_checkpoint_that_is_gone"},
    "jobs.checks:imported_features": {"import them again": IMPORTS},
    "jobs.checks:widths": {"set `features`": f"{BEFORE}::test_widths_of_an_imported_checkpoint"},
    "jobs.checks:lost_videos": {"mount their disk": f"{BEFORE}::test_a_disk_that_is_not_mounted"},
    "jobs.checks:claim": {"run it there": f"{BEFORE}::test_two_folders_on_one_results"},
    "jobs.collection:Collection.imported_content": {"put it there": IMPORTS},
    "jobs.divided:DividedVideos.check_division": {
        "run the workflow again": "tests/jobs/test_resharding.py::test_changed_again_before_the_jobs_were_done"
    },
    "jobs.interruption:unlock": {
        "look there": "tests/jobs/test_unlock.py::test_the_lock_of_a_run_on_another_host",
        "wait for them": "tests/workflow/test_interruption.py::test_snakemake_alone_killed",
    },
    "jobs.videos:_bundle": {"run `prvr import`": IMPORTS},
    "jobs.videos:_all_imported": {"name the folder": IMPORTS},
    "models.checkpoint:fill": {"delete the file": MADE_AGAIN},
    "ranking.data:_teacher_rows": {"run the workflow again": f"{WORKFLOW}::test_a_video_that_one_encoder_lacks"},
    "ranking.data:_order": {"delete the file": MADE_AGAIN},
    "ranking.shards:arrays": {"delete this folder": f"{WORKFLOW}::test_a_video_in_two_shards_of_clips"},
    "ranking.shards:units": {"delete this folder": f"{WORKFLOW}::test_a_video_in_two_shards_of_clips"},
    "search.engine:Engine.of_picture": {
        "ask the frozen encoder": "tests/search/test_frozen.py::test_a_picture_is_seen_as_a_frame_of_a_video_is"
    },
    "search.searcher:Searcher._tokens": {
        "ask the frozen encoder": "tests/search/test_frozen.py::test_a_moment_is_judged_against_moments_of_other_videos"
    },
    "search.frozen:_stored": {"run the workflow again": SEARCHED},
    "search.qdrant_index:client": {"pip install": "tests/test_fixes.py::test_extras_that_messages_name"},
    "search.opening:engines": {"run the workflow again": SEARCHED},
    "search.index:open_index": {
        "run the workflow again": "tests/workflow/test_staleness.py::test_what_a_message_asks_for_makes_the_lost_file_again"
    },
    "tools.init:searchable": {
        "move it away": "tests/workflow/test_index.py::test_a_configuration_of_the_name_about_another_folder_is_not_taken"
    },
    "tools.dryrun:planned_jobs": {"look at": "tests/cli/test_run.py::test_the_exit_code_is_snakemakes"},
    "tools.dryrun:_counts": {"look at": "tests/cli/test_run.py::test_the_exit_code_is_snakemakes"},
    "tools.runs:find": {"give the hash": "tests/tools/test_runs.py::test_listed_compared_searched_and_removed"},
    "tools.init:init": {"move them away": "tests/tools/test_init.py::test_nothing_is_overwritten"},
    "tools.init:init_demo": {"move it away": "tests/tools/test_init.py::test_nothing_is_overwritten"},
    "tools.init:_only_kind": {
        "name the folder": "tests/interchange/test_ways_out.py::test_npz_come_with_their_annotations",
        "choose one with --kind": "tests/tools/test_init.py::test_several_datasets_and_none_are_said_so",
    },
    "training.checkpoint:load_state": {"delete the file": "tests/training/test_stage.py::test_a_state_of_another_recipe_is_not_resumed"},
    "video.pool:Pool._step": {"make room": "tests/workflow/test_interruption.py::test_disk_full"},
    "video.pool:Pool._lost": {"`prvr doctor`": "tests/tools/test_doctor.py::test_a_decoder_that_gives_another_frame"},
    "video.spool:_damaged": {"run the workflow again": "tests/video/test_stage.py::test_a_damaged_spool_is_decoded_again"},
    "video.quarantine:check": {
        "mend the files": "tests/workflow/test_bad_input.py::test_unusable_videos_are_quarantined_and_the_run_goes_on"
    },
}


class Fix(NamedTuple):
    """One fix in the code: `module:function`, its line, and its words; values that are put in stand in braces."""

    site: str
    line: int
    text: str


class _Module:
    """The fixes of one module."""

    def __init__(self, name: str, code: str) -> None:
        self.name, self.tree = name, ast.parse(code)
        self.own = _imported(self.tree) | _constants(self.tree.body)

    def fixes(self) -> Iterator[Fix]:
        for function, node in _calls(self.tree, ()):
            for keyword in node.keywords:
                if keyword.arg == "fix":
                    for text in self._texts(keyword.value, function):
                        yield Fix(f"{self.name}:{'.'.join(part.name for part in function)}", node.lineno, text)
        for item in ast.walk(self.tree):  # a function that puts one together
            if isinstance(item, ast.FunctionDef) and item.name == "_fix":
                texts = [
                    text
                    for node in ast.walk(item)
                    if isinstance(node, ast.expr)
                    for text in self._texts(node, (item,))
                    if ACTION.search(text)
                ]
                yield Fix(f"{self.name}:_fix", item.lineno, max(texts, key=len))

    def _texts(self, node: ast.expr, function: tuple[ast.AST, ...]) -> list[str]:
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if isinstance(node, ast.JoinedStr):
            return ["".join(self._part(part) for part in node.values)]
        if isinstance(node, ast.BinOp):
            return [a + b for a in self._texts(node.left, function) for b in self._texts(node.right, function)]
        if isinstance(node, ast.IfExp):
            return self._texts(node.body, function) + self._texts(node.orelse, function)
        if isinstance(node, ast.Name):
            local = [value for part in function[-1:] for value in _assigned(part, node.id)]
            known = local or [self.own.get(node.id)]
            return [text for value in known if value is not None for text in self._texts(value, function)]
        return []

    @staticmethod
    def _part(part: ast.expr) -> str:
        return str(part.value) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"  # type: ignore[attr-defined]


def _imported(tree: ast.Module) -> dict[str, ast.expr]:
    """The constants a module has from others of ours."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline."):
            path = ROOT.joinpath(*str(node.module).split("."))
            file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
            if any(alias.name.isupper() for alias in node.names) and file.exists():
                there = ast.parse(file.read_text())
                known = (_imported(there) if file.name == "__init__.py" else {}) | _constants(there.body)
                found |= {alias.asname or alias.name: known[alias.name] for alias in node.names if alias.name in known}
    return found


def _constants(body: list[ast.stmt]) -> dict[str, ast.expr]:
    return {node.targets[0].id: node.value for node in body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}


def _assigned(function: ast.AST, name: str) -> list[ast.expr]:
    """What a function gives one of its own names."""
    assigns = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    return [node.value for node in assigns if any(isinstance(target, ast.Name) and target.id == name for target in node.targets)]


def _calls(node: ast.AST, inside: tuple[ast.AST, ...]) -> Iterator[tuple[tuple[ast.AST, ...], ast.Call]]:
    for child in ast.iter_child_nodes(node):
        within = (*inside, child) if isinstance(child, ast.FunctionDef | ast.ClassDef) else inside
        if isinstance(child, ast.Call):
            yield within, child
        yield from _calls(child, within)


@pytest.fixture(scope="module")
def fixes() -> list[Fix]:
    read = {path: path.read_text() for path in sorted((ROOT / "pipeline").rglob("*.py"))}
    names = {path: ".".join(path.relative_to(ROOT / "pipeline").with_suffix("").parts) for path in read}
    return [fix for path, code in read.items() if "fix" in code for fix in _Module(names[path], code).fixes()]


def test_every_command_and_every_deletion_has_its_case(fixes: list[Fix]) -> None:
    lacking, used = [], set()
    for site, line, text in fixes:
        if ACTION.search(text):
            begins = [begin for begin in CASES.get(site, {}) if text.startswith(begin)]
            lacking += [] if begins else [f"{site} (line {line}): {text}"]
            used |= {(site, begin) for begin in begins}
    assert lacking == []
    assert {(site, begin) for site, cases in CASES.items() for begin in cases} - used == set(), "no such fix any more"
    assert len(fixes) > 200, "the reading of the code has broken"


def test_every_case_is_a_test() -> None:
    names = {case for cases in CASES.values() for case in cases.values()}
    for path in {name.partition("::")[0] for name in names}:
        tree = ast.parse((ROOT / path).read_text())
        tests = {f"{path}::{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert {name for name in names if name.startswith(f"{path}::")} <= tests


def test_a_new_one_is_noticed() -> None:
    """Through a constant, one of another module, a local name, a condition, a formatted text and a function that puts it together."""
    code = """
from pipeline.core.store import AGAIN as OTHER
AGAIN = "delete it"
def d():
    raise Error("what", fix=OTHER)
def a(x):
    fix = f"run `prvr {x}`" if x else "nothing"
    raise Error("what", fix=fix)
class B:
    def c(self):
        raise Error("what", fix=AGAIN)
def _fix(entry):
    return "put it" + f" there; or `prvr import` {entry}"
"""
    found = {(site, text) for site, _, text in _Module("made_up", code).fixes() if ACTION.search(text)}
    assert found == {
        ("made_up:a", "run `prvr {x}`"),
        ("made_up:B.c", "delete it"),
        ("made_up:d", "delete the file and run the workflow again"),
        ("made_up:_fix", "put it there; or `prvr import` {entry}"),
    }


def test_extras_that_messages_name(fixes: list[Fix]) -> None:
    named = {extra for fix in fixes for extra in re.findall(r"prvr\[(\w+)\]", fix.text)}
    assert named
    project = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    for extra in named:
        assert re.search(rf"^{extra} = \[$", project, flags=re.M)
