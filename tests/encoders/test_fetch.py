"""`prvr weights --fetch`: the commands are printed, run only with --yes, and what they bring is compared with its checksum."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import published
from pipeline.config.published import Published

CONTENT = b"the weights of a network"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CONFIG = """
dataset: {kind: own, name: own, videos: videos}
encoders:
  clip: {kind: open_clip, architecture: ViT-B-16-quickgelu, weights: openai}
  siglip: {kind: open_clip, architecture: ViT-B-16-SigLIP2, weights: webli}
  mine: {kind: open_clip, architecture: mine, weights: models/mine.pt}
features: [USED]
text: USED
"""

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served where open_clip's table says the weights are; the working directory is another one, without weights."""
    served, here = tmp_path / "served", tmp_path / "here"
    folder = served / "openaipublic" / SHA256
    for path in (folder, here, tmp_path / "home"):
        path.mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(served)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/openaipublic/{SHA256}/ViT-B-16.pt"
    known = {**published.table(), "ViT-B-16-quickgelu": {"openai": Published(url)}}
    monkeypatch.setattr(published, "table", lambda: known)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("PRVR_WEIGHTS", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    yield folder
    server.shutdown()
    server.server_close()


def weights(used: str, *words: str) -> tuple[int, str]:
    Path("config.yaml").write_text(CONFIG.replace("USED", used))
    done = CliRunner().invoke(app, ["weights", *words])
    return done.exit_code, done.output if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)


def test_the_printed_command_fetches(publisher: Path) -> None:
    (publisher / "ViT-B-16.pt").write_bytes(CONTENT)
    code, said = weights("clip", "--fetch")
    assert code == 1
    assert not Path("weights").exists()
    (line,) = said.strip().splitlines()
    subprocess.run(["bash", "-c", line], check=True, capture_output=True)
    assert Path("weights/ViT-B-16.pt").read_bytes() == CONTENT
    assert weights("clip", "--fetch") == (0, "all weights in use are here\n")


def test_yes_runs_it(publisher: Path) -> None:
    (publisher / "ViT-B-16.pt").write_bytes(CONTENT)
    code, said = weights("clip", "--fetch", "--yes")
    assert code == 0
    assert said.splitlines()[-1] == "clip: weights/ViT-B-16.pt"
    assert [path.name for path in Path("weights").iterdir()] == ["ViT-B-16.pt"]
    assert weights("clip", "--yes")[0] == 2  # alone it means nothing


@pytest.mark.parametrize(("content", "said"), [(None, "curl failed with exit code 22"), (b"a page instead", "the weights file has sha256")])
def test_another_file_than_the_published_one_is_refused(publisher: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (publisher / "ViT-B-16.pt").write_bytes(content)
    code, message = weights("clip", "--fetch", "--yes")
    assert code == 1
    assert said in message
    assert Path("weights/ViT-B-16.pt").exists() is (content is not None)
    (publisher / "ViT-B-16.pt").write_bytes(CONTENT)
    assert weights("clip", "--fetch", "--yes")[0] == 0  # fetched again over the wrong one


def test_what_the_hub_publishes_and_what_nobody_does(publisher: Path) -> None:
    hub = shlex.split(weights("siglip", "--fetch")[1].splitlines()[0])
    assert hub[:4] == ["hf", "download", "timm/ViT-B-16-SigLIP2", "open_clip_model.safetensors"]
    assert hub[4:] == ["--local-dir", "weights/ViT-B-16-SigLIP2"]
    code, said = weights("mine", "--fetch")
    assert code == 1
    assert "# mine: no address is known; `prvr weights --config config.yaml`" in said
