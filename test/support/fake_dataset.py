# SPDX-License-Identifier: Apache-2.0
"""Small LeRobot data sets of the fake robot, written without the product's own writer."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wam.data.fakes import CAMERA, fake_image, fake_trajectory


def write_fake_dataset(
    root: Path,
    *,
    version: str = "v2.1",
    episodes: int = 2,
    rows: int = 12,
    joints: int = 3,
    height: int = 48,
    width: int = 64,
    fps: int = 30,
    video_frames: int | None = None,
    video_fps: int | None = None,
    stored_images: bool = False,
    action_joints: int | None = None,
) -> Path:
    """Write a small LeRobot data set in the layout of `version` and return its folder.

    Args:
        root: folder to make.
        version: "v2.0", "v2.1" or "v3.0".
        episodes: number of episodes.
        rows: rows of each.
        joints: columns of the state, named d0...
        height: of the images [px].
        width: of the images [px].
        fps: declared rate [Hz]; the stamps have it too.
        video_frames: images per episode in the video, if not one per row.
        video_fps: rate of the video, if not `fps`.
        stored_images: put PNG images into the table instead of a video.
        action_joints: columns of the action, if not `joints`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [
        _episode_table(
            i, rows, joints, action_joints or joints, fps, (height, width) if stored_images else None
        )
        for i in range(episodes)
    ]
    info = _info(
        version, episodes, rows, joints, action_joints or joints, (height, width), fps, stored_images
    )
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info), encoding="utf-8")
    frames = video_frames or rows
    if version == "v3.0":
        _write_version_3(root, tables, rows, fps)
        if not stored_images:
            path = root / info["video_path"].format(
                video_key=f"observation.images.{CAMERA}", chunk_index=0, file_index=0
            )
            write_video(path, count=frames * episodes, fps=video_fps or fps, height=height, width=width)
        return root
    tasks = [{"task_index": 0, "task": "pick up the cube"}]
    lines = [{"episode_index": i, "tasks": ["pick up the cube"], "length": rows} for i in range(episodes)]
    for name, content in (("tasks", tasks), ("episodes", lines)):
        text = "\n".join(json.dumps(line) for line in content)
        (root / "meta" / f"{name}.jsonl").write_text(text + "\n", encoding="utf-8")
    for i, table in enumerate(tables):
        path = root / info["data_path"].format(episode_chunk=0, episode_index=i)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table), path)
        if not stored_images:
            key = f"observation.images.{CAMERA}"
            path = root / info["video_path"].format(episode_chunk=0, video_key=key, episode_index=i)
            write_video(path, count=frames, fps=video_fps or fps, height=height, width=width, first=i * rows)
    return root


def write_video(path: Path, *, count: int, fps: int, height: int, width: int, first: int = 0) -> None:
    """Write a video of `count` generated images, starting with image number `first`."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(
                fake_image(first + i, height=height, width=width), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _episode_table(
    index: int, rows: int, joints: int, action_joints: int, fps: int, stored: tuple[int, int] | None
) -> dict[str, Any]:
    state = fake_trajectory(rows + 1, max(joints, action_joints), rate=fps).astype(np.float32)
    table: dict[str, Any] = {
        "observation.state": state[:rows, :joints].tolist(),
        "action": state[1:, :action_joints].tolist(),
        "timestamp": (np.arange(rows) / fps).astype(np.float32).tolist(),
        "frame_index": list(range(rows)),
        "episode_index": [index] * rows,
        "index": list(range(index * rows, (index + 1) * rows)),
        "task_index": [0] * rows,
    }
    if stored is not None:
        height, width = stored
        pictures = [fake_image(index * rows + i, height=height, width=width) for i in range(rows)]
        table[f"observation.images.{CAMERA}"] = [
            {"bytes": cv2.imencode(".png", p[..., ::-1])[1].tobytes(), "path": ""} for p in pictures
        ]
    return table


def _info(
    version: str,
    episodes: int,
    rows: int,
    joints: int,
    action_joints: int,
    size: tuple[int, int],
    fps: int,
    stored: bool,
) -> dict[str, Any]:
    packed = version == "v3.0"
    place = "chunk-{chunk_index:03d}/file-{file_index:03d}" if packed else "episode_{episode_index:06d}"
    video = "videos/{video_key}/" if packed else "videos/chunk-{episode_chunk:03d}/{video_key}/"
    return {
        "codebase_version": version,
        "robot_type": "fake",
        "total_episodes": episodes,
        "total_frames": episodes * rows,
        "chunks_size": 1000,
        "fps": fps,
        "data_path": ("data/" if packed else "data/chunk-{episode_chunk:03d}/") + place + ".parquet",
        "video_path": video + place + ".mp4",
        "features": {
            "observation.state": {
                "dtype": "float32",
                "shape": [joints],
                "names": [[f"d{i}" for i in range(joints)]],
            },
            "action": {
                "dtype": "float32",
                "shape": [action_joints],
                "names": {"motors": [f"d{i}" for i in range(action_joints)]},
            },
            f"observation.images.{CAMERA}": {
                "dtype": "image" if stored else "video",
                "shape": [*size, 3],
                "names": ["height", "width", "channels"],
            },
        },
    }


def _write_version_3(root: Path, tables: list[dict[str, Any]], rows: int, fps: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = root / "data" / "chunk-000" / "file-000.parquet"
    data.parent.mkdir(parents=True)
    pq.write_table(pa.concat_tables([pa.table(table) for table in tables]), data)
    key = f"videos/observation.images.{CAMERA}"
    columns: dict[str, list[Any]] = {
        "episode_index": list(range(len(tables))),
        "data/chunk_index": [0] * len(tables),
        "data/file_index": [0] * len(tables),
        f"{key}/chunk_index": [0] * len(tables),
        f"{key}/file_index": [0] * len(tables),
        f"{key}/from_timestamp": [i * rows / fps for i in range(len(tables))],
        f"{key}/to_timestamp": [(i + 1) * rows / fps for i in range(len(tables))],
        "tasks": [["pick up the cube"]] * len(tables),
        "length": [rows] * len(tables),
    }
    path = root / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path)
    # As pandas writes it: the instruction is the index of the table.
    tasks = {"task_index": [0], "__index_level_0__": ["pick up the cube"]}
    pq.write_table(pa.table(tasks), root / "meta" / "tasks.parquet")
