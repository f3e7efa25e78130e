"""The collector of cycles is left out meanwhile, and runs afterwards exactly when it ran before."""

from __future__ import annotations

import gc

import pytest

from pipeline.core.collector import paused


@pytest.mark.parametrize("running", [True, False])
def test_paused_and_as_before(running: bool) -> None:
    was = gc.isenabled()
    (gc.enable if running else gc.disable)()
    try:
        with paused():
            assert not gc.isenabled()
            with paused():
                pass
            assert not gc.isenabled()  # the inner one gives back what it found
        assert gc.isenabled() is running
        with pytest.raises(ValueError, match="a bad row"), paused():
            raise ValueError("a bad row")
        assert gc.isenabled() is running
    finally:
        (gc.enable if was else gc.disable)()
