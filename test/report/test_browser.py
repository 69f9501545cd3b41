# SPDX-License-Identifier: Apache-2.0
"""Reports in a real browser: nothing is fetched, nothing sticks out on a phone, every picture is drawn."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from wam.data.fakes import fake_robot, write_fake_bag
from wam.evaluation.replay.engine import ReplayOptions, ReplaySettings
from wam.evaluation.replay.session import replay
from wam.runtime.policy import PolicyRequest, load_fake

BROWSER = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
PROBE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("main *")].filter(e => !e.closest(".scroll, .drawing, svg")
    && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.className || e.tagName);
  document.body.innerHTML = "";
  const out = document.createElement("pre");
  out.textContent = "PROBE" + JSON.stringify({inner: innerWidth, page: document.documentElement.scrollWidth, wide,
    images: N_IMAGES, broken: N_BROKEN, fetched: performance.getEntriesByType("resource").filter(
      r => !r.name.startsWith("data:")).map(r => r.name)}) + "END";
  document.body.append(out);
  if (parent !== window) parent.postMessage(out.textContent, "*");
});</script>"""
COUNTS = """<script>addEventListener("load", () => {
  window.N_IMAGES = document.images.length;
  window.N_BROKEN = [...document.images].filter(i => !i.naturalWidth).length;
});</script>"""

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium on this machine (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    robot = fake_robot()
    write_fake_bag(folder / "bag", robot=robot, seconds=1.0)
    policy = load_fake(PolicyRequest("fake", planner=True, executor=True), robot=robot)
    settings = ReplaySettings(planner_latency_ns=100_000_000, executor_latency_ns=50_000_000)
    options = ReplayOptions(bag=folder / "bag", policy_name="fake", settings=settings)
    return replay(options, robot=robot, policy=policy, report=folder / "report").page


def browse(path: Path, folder: Path, *options: str) -> str:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *options, path.as_uri()]
    environment = {key: value for key, value in os.environ.items() if key not in ("LD_LIBRARY_PATH",)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment, check=True)
    return done.stdout


FRAME = """<body style="margin: 0"><iframe src="probed.html" style="width: 360px; height: 900px; border: 0"></iframe>
<pre id="told"></pre><script>addEventListener("message", e => {
  document.getElementById("told").textContent = e.data;
});</script></body>"""
"""A phone: the browser itself is never narrower than 500 pixels."""


@pytest.mark.parametrize("width", [1200, 360])
def test_nothing_is_fetched_and_nothing_sticks_out(page: Path, tmp_path: Path, width: int) -> None:
    probed = opened = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", COUNTS + PROBE + "</body>"))
    if width < 500:
        opened = tmp_path / "frame.html"
        opened.write_text(FRAME)
    text = browse(opened, tmp_path, f"--window-size={max(width, 500)},900", "--dump-dom")
    found = re.search(r"PROBE(\{.*?\})END", text.replace("&gt;", ">"))
    assert found is not None, text[-2000:]
    seen = json.loads(found.group(1))
    assert seen["inner"] == width
    assert seen["fetched"] == []
    assert seen["broken"] == 0
    assert seen["images"] > 3
    assert seen["wide"] == []
    assert seen["page"] <= seen["inner"]


def test_the_page_is_drawn(page: Path, tmp_path: Path) -> None:
    import cv2

    browse(page, tmp_path, "--window-size=1000,1400", f"--screenshot={tmp_path / 'page.png'}")
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture is not None
    # Ink, paper and the colours of lines: a blank page has one colour.
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    assert picture[..., 0].std() > 5
