# SPDX-License-Identifier: Apache-2.0
"""Videos of a replay: their time is the report's, their size is bounded, and they never end a replay."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest

from wam.core.errors import RecordingError
from wam.core.observation import Rgb
from wam.data.lerobot.video_writer import VideoEncoder
from wam.evaluation.replay import film
from wam.evaluation.replay.film import CameraFilm, FilmedCamera, films


def flat(level: int, height: int = 48, width: int = 64) -> Rgb:
    return np.full((height, width, 3), level, dtype=np.uint8)


def shown(filmed: FilmedCamera) -> list[tuple[float, float]]:
    """Return time [s] and brightness of every image of the MP4."""
    with av.open(io.BytesIO(filmed.mp4)) as container:
        return [
            (float(frame.time or 0.0), float(frame.to_ndarray(format="rgb24").mean()))
            for frame in container.decode(video=0)
        ]


def at(filmed: FilmedCamera, seconds: float) -> float:
    """Return the brightness that a player shows at a time [s]."""
    return [level for time, level in shown(filmed) if time <= seconds + 1e-9][-1]


def filmed(times: list[float], *, end: float) -> FilmedCamera:
    one = CameraFilm("cam", expected=len(times), limit=10**6)
    for i, seconds in enumerate(times):
        one.count()
        one.add(flat(20 + 10 * i), seconds)
    return one.finish(end)


def test_an_image_is_shown_from_its_stamp_on_also_where_others_are_missing_or_late() -> None:
    times = [0.0, 0.1, 0.23, 0.4, 1.7, 1.8]
    video = filmed(times, end=2.5)
    assert video.images_ms == (0, 100, 230, 400, 1700, 1800)
    for i, seconds in enumerate(times):
        assert at(video, seconds + 0.02) == pytest.approx(20 + 10 * i, abs=3)
    assert at(video, 1.69) == pytest.approx(50, abs=3)
    assert shown(video)[-1][0] == pytest.approx(2.5)


def test_before_a_first_image_that_comes_late_the_video_is_grey() -> None:
    video = filmed([0.8, 0.9], end=1.0)
    assert at(video, 0.0) == pytest.approx(film.GREY, abs=3)
    assert at(video, 0.81) == pytest.approx(20, abs=3)
    assert video.images_ms == (800, 900)


def test_a_first_image_a_moment_after_the_start_is_shown_from_the_start() -> None:
    assert at(filmed([0.03, 0.2], end=1.0), 0.0) == pytest.approx(20, abs=3)


def test_images_before_the_last_one_are_left_out_when_a_clock_goes_back() -> None:
    video = filmed([1.0, 1.1, 0.2, 0.3, 1.25], end=1.5)
    assert video.images_ms == (1000, 1100, 1250)
    assert at(video, 1.3) == pytest.approx(60, abs=3)


def test_at_most_ten_images_a_second_are_taken() -> None:
    assert len(filmed([i / 30 for i in range(10)], end=0.4).images_ms) == 4


def test_large_images_are_made_small_and_sides_even() -> None:
    one = CameraFilm("cam", expected=1, limit=10**6)
    one.add(flat(9, height=723, width=1281), 0.0)
    video = one.finish(0.5)
    assert (video.width, video.height) == (320, 180)
    one = CameraFilm("cam", expected=1, limit=10**6)
    one.add(flat(9, height=47, width=61), 0.0)
    video = one.finish(0.5)
    assert video.width % 2 == video.height % 2 == 0


def noise(seed: int) -> Rgb:
    return np.random.default_rng(seed).integers(0, 255, (240, 320, 3), dtype=np.uint8)


def test_images_that_compress_badly_stay_within_the_limit_and_reach_to_the_end() -> None:
    limit, count = 400_000, 120
    one = CameraFilm("cam", expected=count, limit=limit)
    for i in range(count):
        one.count()
        one.add(noise(i), i / 10)
    video = one.finish(count / 10)
    largest = 120_000  # one image more than fits, and the index of the file
    assert len(video.mp4) < limit + largest
    assert len(video.images_ms) < count / 2
    assert video.images_ms[-1] > 0.8 * 1000 * count / 10


def test_cameras_share_the_bytes_of_a_page() -> None:
    two = films({"a": 1000, "b": 1000})
    for i in range(100):
        for one in two.values():
            one.add(noise(i), i / 10)
    size = sum(len(one.finish(10.0).mp4) for one in two.values())
    # Nothing was counted, so the films are at their beginning: they may use their share ahead of time.
    assert size < film.MP4_BYTES * film.AHEAD + 2 * 120_000


@pytest.mark.parametrize("fault", [RecordingError("no encoder"), ValueError("odd")])
def test_an_image_that_cannot_be_encoded_ends_the_film_and_says_so(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    one = CameraFilm("cam", expected=3, limit=10**6)
    one.add(flat(1), 0.0)

    def fail(*_: Any, **__: Any) -> int:
        raise fault

    monkeypatch.setattr(VideoEncoder, "encode", fail)
    one.add(flat(2), 0.5)
    one.add(flat(3), 1.0)
    video = one.finish(2.0)
    assert video.mp4 == b""
    assert str(fault) in video.problem


def test_a_camera_that_no_image_was_used_of_has_no_video() -> None:
    video = CameraFilm("cam", expected=0, limit=10**6).finish(1.0)
    assert (video.mp4, video.images_ms) == (b"", ())
    assert video.problem


def test_films_can_be_closed_without_being_finished() -> None:
    one = CameraFilm("cam", expected=1, limit=10**6)
    one.add(flat(1), 0.0)
    one.close()
    one.close()
