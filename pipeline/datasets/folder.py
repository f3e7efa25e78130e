"""The folder of videos: which files lie in it, and which of them the annotations ask for."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.core.atomic import write_text
from pipeline.core.errors import DatasetError, printable
from pipeline.datasets.rows import LISTED, Rows, Video, refuse

_KINDS = "mp4 m4v mov mkv webm avi ts mts m2ts mpg mpeg vob wmv asf flv f4v 3gp 3g2 ogv ogg gif mjpeg mxf h264 y4m"
EXTENSIONS = frozenset(f".{kind}" for kind in _KINDS.split(" "))


@dataclass(frozen=True, slots=True)
class File:
    """One video of the folder: `key` is its path relative to the folder, without extension, with `/`; what is no UTF-8 in it is escaped."""

    key: str
    path: str

    @property
    def stem(self) -> str:
        return self.key.rsplit("/", 1)[-1]


def key_of(relative: str) -> str:
    """The id a relative path gives: posix, without the extension, Unicode composed (macOS stores names decomposed)."""
    path = relative.replace(os.sep, "/")
    stem, extension = os.path.splitext(path)
    key = stem if extension.lower() in EXTENSIONS else path
    return key if key.isascii() else unicodedata.normalize("NFC", key)


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk` from the top down, every folder once, links followed.

    Errors: DatasetError for a folder that cannot be read: what it holds would be left out without a word.
    """
    visited: set[str] = set()
    for base, folders, names in os.walk(root, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(base)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        yield base, folders, names


def _unreadable(error: OSError) -> None:
    if Path(error.filename).name == "lost+found":  # of a disk's own repairs, closed to all but root
        return
    raise DatasetError(
        f"a folder of videos cannot be read: {error.strerror}",
        where=error.filename,
        fix="give yourself the permission to read it, mount its disk, or move it out of dataset.videos",
    ) from error


def scan(root: str | Path, frame_folders: Collection[str] = ()) -> list[File]:
    """Every video below `root`, sorted by path; a folder named in `frame_folders` counts as one video and is not entered.

    Hidden files and folders are skipped, links are followed once. Errors: DatasetError when `root` is no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError("the folder of videos does not exist", where=root, fix="set dataset.videos to the folder that holds them")
    files: list[File] = []
    for base, folders, names in walk(root):
        relative = os.path.relpath(base, root)
        prefix = "" if relative == "." else relative + os.sep
        taken = [name for name in folders if name in frame_folders]
        files += [
            File(unicodedata.normalize("NFC", printable(prefix + name).replace(os.sep, "/")), os.path.join(base, name)) for name in taken
        ]
        folders[:] = sorted(name for name in folders if name not in frame_folders and not name.startswith("."))
        files += [
            File(key_of(printable(prefix + name)), os.path.join(base, name))
            for name in names
            if os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")
        ]
    return sorted(files, key=lambda file: file.path)


class FolderFiles:
    """A folder's videos by id and by path, for rows that name them by either.

    An id is the path without its extension; files that differ in nothing else (`a.mkv`, `a.mp4`) keep theirs. `shared` maps the
    stem of such files to their ids.
    """

    def __init__(self, files: list[File], root: Path) -> None:
        self.root = root
        times = Counter(file.key for file in files)
        self.all = [replace(file, key=self._with_extension(file)) if times[file.key] > 1 else file for file in files]
        self._last: tuple[tuple[str, str, bool], tuple[str, str, str]] = (("", "", False), ("", "", ""))
        self._nearest: dict[str, str] = {}
        self.shared: dict[str, list[str]] = {}
        self.by_key: dict[str, list[File]] = {}
        for file, plain in zip(self.all, files, strict=True):
            self.by_key.setdefault(file.key, []).append(file)
            if file.key != plain.key:
                self.shared.setdefault(plain.key, []).append(file.key)

    def _with_extension(self, file: File) -> str:
        return file.key + os.path.splitext(file.path)[1]

    def collisions(self) -> list[str]:
        return [self.collision(key) for key, files in self.by_key.items() if len(files) > 1]

    def collision(self, key: str) -> str:
        return f"{key}: " + ", ".join(os.path.relpath(file.path, self.root) for file in self.by_key[key])

    def nearest(self, key: str) -> str:
        """The id most like an absent one, of the first hundred that are asked for: each costs a look at every file."""
        if key not in self._nearest and len(self._nearest) < LISTED:
            self._nearest[key] = next(iter(difflib.get_close_matches(key, self.by_key, n=1)), "")
        return self._nearest.get(key, "")

    def resolve(self, path: str, video_id: str, *, hint: bool = True) -> tuple[str, str, str]:
        """(id, file, problem) of a row's `path` or `video_id`; the problem is empty when the file is there.

        `hint`: name the nearest id of an absent one.
        """
        asked = path, video_id, hint
        if asked != self._last[0]:  # rows outnumber videos, and those of one stand together
            self._last = asked, self._resolve(path, video_id, hint)
        return self._last[1]

    def _resolve(self, path: str, video_id: str, hint: bool) -> tuple[str, str, str]:
        if path:
            absolute = os.path.abspath(self.root / path)
            relative = os.path.relpath(absolute, os.path.abspath(self.root))
            if relative.split(os.sep)[0] == os.pardir:
                return "", "", f"path {path!r} is outside the folder of videos"
            if os.path.isdir(absolute):
                return "", "", f"path {path!r} is a folder"
            key, extension = key_of(relative), os.path.splitext(relative)[1]
            key += extension if key in self.shared else ""
            return key, str(self.root / relative), "" if os.path.lexists(absolute) else f"no file {path!r}"
        given = unicodedata.normalize("NFC", video_id)
        key = given if given in self.by_key else key_of(video_id)
        files = self.by_key.get(key, [])
        if not files and key in self.shared:
            return key, "", f"video_id {video_id!r} fits several files, whose ids are {', '.join(self.shared[key])}"
        if not files:
            near = self.nearest(key) if hint else ""
            return key, "", f"no video {video_id!r} in the folder" + (f" (nearest: {near!r})" if near else "")
        if len(files) > 1:
            return key, "", f"video_id {video_id!r} fits several files: {self.collision(key).split(': ', 1)[1]}"
        return key, files[0].path, ""


def locate(
    rows: Rows, root: str | Path, *, report: Path, allow_missing: bool = False, frame_folders: bool = False
) -> tuple[Rows, list[str]]:
    """The rows with every video's files looked up below `root`, by name anywhere or by path, and the lines describing what is missing.

    Errors: DatasetError listing every name that fits two files; and, unless `allow_missing`, every file that is absent (a long list
    goes to `report`). With `allow_missing` those videos and their queries are left out. A video of several files is missing when one
    of them is: its time line would shift.
    """
    names = {name for video in rows.videos for part in video.parts for name in part}
    named: dict[str, list[File]] = {}
    for file in scan(root, names if frame_folders else ()):
        for name in names & {file.stem, file.key}:
            named.setdefault(name, []).append(file)

    twice, missing, kept = [], [], []
    for video in rows.videos:
        files: list[str] = []
        for part in video.parts:
            fits = [file for name in part for file in named.get(name, [])]
            if len(fits) > 1:
                twice.append(f"{video.video_id}: " + ", ".join(file.path for file in fits))
            if fits:
                files.append(fits[0].path)
            else:
                missing.append(f"{video.video_id} ({video.split}): no file {' or '.join(f'{name}.*' for name in part)}")
        if len(files) == len(video.parts):
            kept.append(replace(video, files=tuple(files)))
    refuse(twice, what="videos with several files", where=root, fix="keep one file of each name below this folder")
    if missing and not kept:
        raise DatasetError(
            "not one of the dataset's videos is in the folder", where=root, fix="set dataset.videos to the folder that holds them"
        )
    if missing and not allow_missing:
        _refuse_missing(missing, root, report)
    located = {video.video_id for video in kept}
    return replace(keep(rows, kept), absent=tuple(v.video_id for v in rows.videos if v.video_id not in located)), missing


def _refuse_missing(missing: list[str], root: str | Path, report: Path) -> None:
    listing = [f"    {line}" for line in missing[:LISTED]]
    if len(missing) > LISTED:
        report.parent.mkdir(parents=True, exist_ok=True)
        write_text(report, "".join(f"{line}\n" for line in missing))
        listing.append(f"    ... and {len(missing) - LISTED} more; all are listed in {report}")
    raise DatasetError(
        f"missing video files ({len(missing)}):\n" + "\n".join(listing),
        where=root,
        fix="add them, set dataset.videos to the right folder, or set dataset.allow_missing_videos: true to go on with the rest",
    )


def keep(rows: Rows, videos: list[Video]) -> Rows:
    """The rows of these videos only, with a note on what was left out."""
    ids = {video.video_id for video in videos}
    queries = tuple(query for query in rows.queries if query.video_id in ids)
    if len(videos) == len(rows.videos):
        return replace(rows, videos=tuple(videos), queries=queries)
    lost = (
        f"{len(rows.videos) - len(videos)} of {len(rows.videos)} videos are not on disk: they and their "
        f"{len(rows.queries) - len(queries)} queries are left out, so results are not comparable with published ones"
    )
    return replace(rows, videos=tuple(videos), queries=queries, notes=(*rows.notes, lost))
