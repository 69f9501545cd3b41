# SPDX-License-Identifier: Apache-2.0
"""Small LeRobot data sets written by the tests, and batches of random latents."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from wam.policies.aha_wam.config import AhaWamConfig, tiny
from wam.policies.aha_wam.model import AhaWam
from wam.policies.aha_wam.training.batch import LatentBatch

CAMERA = "observation.images.head"
JOINTS = 3
FPS = 30
SIZE = 32
LENGTHS = (150, 80)
TASKS = ("lift the cup", "put it down")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def brightness(episode: int, row: int) -> int:
    """Grey level of a picture, from which a test can tell the row."""
    return 20 + (row + 37 * episode) % 200


def numbers(episode: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """State and action of an episode, [N, 3]; the action is where the state will be."""
    t = np.arange(length + 1)[:, None] / 20 + np.arange(JOINTS) + episode
    path = np.sin(t).astype(np.float32)
    return path[:-1], path[1:]


def write_video(path: Path, levels: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.codec_context.bit_rate = 8_000_000
        stream.codec_context.gop_size = 12
        for i, level in enumerate(levels):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), level, np.uint8), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def png(level: int) -> bytes:
    buffer = BytesIO()
    with av.open(buffer, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "rgb24"
        frame = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), level, np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def table_of(episode: int, length: int, *, first: int, images: bool) -> pa.Table:
    state, action = numbers(episode, length)
    columns: dict[str, Any] = {
        "observation.state": pa.array(state.tolist(), pa.list_(pa.float32(), JOINTS)),
        "action": pa.array(action.tolist(), pa.list_(pa.float32(), JOINTS)),
        "timestamp": pa.array((np.arange(length) / FPS).astype(np.float32)),
        "frame_index": pa.array(np.arange(length)),
        "episode_index": pa.array(np.full(length, episode)),
        "index": pa.array(first + np.arange(length)),
        "task_index": pa.array(np.full(length, episode % len(TASKS))),
    }
    if images:
        columns[CAMERA] = pa.array(
            [{"bytes": png(brightness(episode, r)), "path": f"{r}.png"} for r in range(length)]
        )
    return pa.table(columns)


def write_dataset(
    root: Path, *, version: str = "v2.1", lengths: tuple[int, ...] = LENGTHS, images: bool = False
) -> Path:
    """Write a data set with one camera, three joints and one task per episode."""
    names = [f"joint{i}" for i in range(JOINTS)]
    vector = {"dtype": "float32", "shape": [JOINTS], "names": [names] if version == "v2.1" else names}
    picture = {
        "dtype": "image" if images else "video",
        "shape": [SIZE, SIZE, 3],
        "names": ["height", "width", "c"],
    }
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    info: dict[str, Any] = {
        "codebase_version": version,
        "robot_type": "test",
        "fps": FPS,
        "chunks_size": 1000,
        "features": {
            "observation.state": vector,
            "action": vector,
            CAMERA: picture,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None},
            **{name: scalar for name in ("frame_index", "episode_index", "index", "task_index")},
        },
    }
    meta = root / "meta"
    meta.mkdir(parents=True)
    starts = np.cumsum([0, *lengths]).tolist()
    tables = [table_of(e, n, first=starts[e], images=images) for e, n in enumerate(lengths)]
    levels = [[brightness(e, r) for r in range(n)] for e, n in enumerate(lengths)]
    if version == "v2.1":
        info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        place = {"episode_chunk": 0, "video_key": CAMERA}
        for e, table in enumerate(tables):
            path = root / info["data_path"].format(**place, episode_index=e)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
            if not images:
                write_video(root / info["video_path"].format(**place, episode_index=e), levels[e])
        lines = [
            json.dumps({"episode_index": e, "tasks": [TASKS[e % len(TASKS)]], "length": n})
            for e, n in enumerate(lengths)
        ]
        (meta / "episodes.jsonl").write_text("\n".join(lines) + "\n")
        tasks = [json.dumps({"task_index": i, "task": t}) for i, t in enumerate(TASKS)]
        (meta / "tasks.jsonl").write_text("\n".join(tasks) + "\n")
    else:
        info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        path = root / info["data_path"].format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True)
        pq.write_table(pa.concat_tables(tables), path)
        video = root / info["video_path"].format(video_key=CAMERA, chunk_index=0, file_index=0)
        write_video(video, [level for part in levels for level in part])
        (meta / "episodes" / "chunk-000").mkdir(parents=True)
        rows = [
            {
                "episode_index": e,
                "tasks": [TASKS[e % len(TASKS)]],
                "length": n,
                "data/chunk_index": 0,
                "data/file_index": 0,
                f"videos/{CAMERA}/chunk_index": 0,
                f"videos/{CAMERA}/file_index": 0,
                f"videos/{CAMERA}/from_timestamp": starts[e] / FPS,
            }
            for e, n in enumerate(lengths)
        ]
        pq.write_table(pa.Table.from_pylist(rows), meta / "episodes" / "chunk-000" / "file-000.parquet")
        by_index = {"task_index": [0, 1], "__index_level_0__": list(TASKS)}
        pq.write_table(pa.table(by_index), meta / "tasks.parquet")
    (meta / "info.json").write_text(json.dumps(info))
    return root


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A v2.1 data set of two episodes; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("data") / "cups")


@pytest.fixture(scope="session")
def short_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A v3.0 data set that is quick to encode; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("data") / "short", version="v3.0", lengths=(70, 12))


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    def make(**options: Any) -> Path:
        return write_dataset(tmp_path / f"set{len(list(tmp_path.iterdir()))}", **options)

    return make


@dataclass(frozen=True)
class Sizes:
    """Sizes of random batches."""

    batch: int = 2
    frames: int = 3
    history: int = 2
    chunks: int = 4


def small_config(**changes: Any) -> AhaWamConfig:
    base: dict[str, Any] = {"image_height": 64, "image_width": 64, "memory_window": 2, "queries": 8}
    return replace(tiny(), **{**base, **changes})


def random_batch(config: AhaWamConfig, *, seed: int = 0, sizes: Sizes | None = None) -> LatentBatch:
    """A batch of random latents and smooth random actions."""
    s = sizes or Sizes(chunks=config.chunks)
    g = torch.Generator().manual_seed(seed)
    rows = s.chunks * config.chunk_rows
    cells = (config.latent_channels, config.latent_rows, config.latent_columns)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g)

    t = torch.linspace(0, 1, rows)[None, :, None]
    phase = 6 * torch.rand(2, s.batch, 1, config.action_dim, generator=g)
    positions = torch.arange(s.frames) * 4 + 16
    return LatentBatch(
        positions_BF=positions[None].repeat(s.batch, 1),
        history_positions_BM=(torch.arange(s.history) * 8)[None].repeat(s.batch, 1),
        history_valid_B=torch.full((s.batch,), s.history),
        text_BTE=normal(s.batch, config.context_len, config.text_dim),
        states_BKJ=normal(s.batch, s.chunks, config.state_dim),
        actions_BHA=torch.sin(t * phase[0] + phase[1]),
        action_is_pad_BH=torch.zeros(s.batch, rows, dtype=torch.bool),
        latent_is_pad_BF=torch.zeros(s.batch, s.frames, dtype=torch.bool),
        offsets_B=torch.zeros(s.batch, dtype=torch.int64),
        z_BCFHW=normal(s.batch, cells[0], s.frames, *cells[1:]),
        history_BMCHW=normal(s.batch, s.history, *cells),
        observations_BKCHW=normal(s.batch, s.chunks, *cells),
    )


@pytest.fixture(scope="session")
def make_model() -> Callable[..., AhaWam]:
    """Makes networks whose editor has an effect from the start."""

    def make(seed: int = 0, **changes: Any) -> AhaWam:
        torch.manual_seed(seed)
        model = AhaWam(small_config(**changes))
        if model.editor is not None:
            with torch.no_grad():
                for layer in model.editor.layer_delta_proj:
                    layer[3].weight.normal_(std=0.1)
                model.editor.delta_gate.zero_()
        return model

    return make


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., LatentBatch]:
    return random_batch


@pytest.fixture
def run_values(short_root: Path, tmp_path: Path) -> dict[str, Any]:
    """Plain values of a configuration that trains in seconds."""
    return {
        "model": {
            "preset": "tiny",
            "overrides": {"image_height": 32, "image_width": 32, "memory_window": 2, "queries": 4},
        },
        "data": {
            "root": str(short_root),
            "cameras": [CAMERA],
            "history_frames": 2,
            "horizon_rows": 32,
        },
        "optim": {"steps": 6, "batch_size": 2, "learning_rate": 1e-3, "precision": "float32"},
        "run": {
            "out": str(tmp_path / "run"),
            "device": "cpu",
            "threads": 1,
            "checkpoint_every": 0,
            "tensorboard": False,
        },
    }
