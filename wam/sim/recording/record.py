# SPDX-License-Identifier: Apache-2.0
"""Experts' episodes as data: in parallel, resumable, every episode complete or absent.

    OUT.partial/plan.json          the plan
    OUT.partial/seed_000007/       a finished episode: a bag, or a data set of its own
    OUT.partial/seed_000007.json   outcome of the seed; written last
    OUT                            the recording, once the last episode is finished

However a run ends (Ctrl-C, kill -9, a full disk), the same command resumes it, and the result equals that of an
uninterrupted run: the first successful seeds in order, whichever process played them.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wam.core.errors import RecordingError
from wam.core.worker_pool import end_with_parent
from wam.data.bag.writing import link_or_copy
from wam.data.lerobot.origin import ABOUT
from wam.data.lerobot.writer import LeRobotWriter
from wam.devices.loader import load_robot
from wam.robots.description import RobotDescription
from wam.sim.actors import ExpertActor
from wam.sim.experts.registry import make_expert
from wam.sim.recording.plan import (
    PART,
    Format,
    Played,
    RecordPlan,
    disk_errors,
    open_work,
    part_name,
    read_played,
    write_whole,
)
from wam.sim.recording.sinks import new_part
from wam.sim.rollout import Frame, RolloutOptions, rollout
from wam.sim.tasks.registry import find_task
from wam.sim.tasks.task import Setting
from wam.sim.tasks.world import TaskWorld

INDEX = "episodes.jsonl"
"""In a folder of bags: one line per episode."""

SPARE = 10
"""A recording is aborted when the failed seeds exceed the requested episodes by more than this."""

Done = Callable[[Played, int], None]
"""Called with the outcome of an episode, and with the number of episodes kept so far."""


@dataclass(frozen=True, slots=True)
class ExpertRecording:
    """Result of a recording.

    Attributes:
        out: folder of the bags, or of the data set.
        episodes: outcomes of the episodes in it, in order.
        left_out: outcomes of the episodes that were played and not kept.
    """

    out: Path
    episodes: tuple[Played, ...]
    left_out: tuple[Played, ...]


def work_folder(out: Path) -> Path:
    """Return the folder of an unfinished recording."""
    return out.with_name(f"{out.name}.partial")


def record(
    plan: RecordPlan,
    out: Path,
    *,
    episodes: int,
    processes: int = 1,
    robot: RobotDescription | None = None,
    done: Done = lambda played, count: None,
) -> ExpertRecording:
    """Run the expert until `episodes` of its episodes can be kept, and write them to `out`.

    Args:
        plan: what to record.
        out: folder to make; it must not exist.
        episodes: how many, positive.
        processes: number of parallel processes; 1 runs in this process.
        robot: replaces the task's own.
        done: called after every episode.

    Raises:
        ConfigError: there is an unfinished recording with other options, or the task does not have the setting.
        RecordingError: `out` exists, another process records to it, the disk is full or fails, or the expert fails too
            often; finished episodes are kept.
        MissingDependency: cameras cannot be rendered here.
    """
    if episodes < 1 or processes < 1:
        raise ValueError(f"{episodes} episodes in {processes} processes")
    if out.exists() or out.is_symlink():
        raise RecordingError(
            f"recording {out} exists already and is not overwritten",
            allowed="a new path",
            where="the argument OUT",
        )
    out = out.resolve()
    folder = work_folder(out)
    open_work(folder, plan)
    with _alone(folder):
        for torn in folder.glob(f".{PART}*"):  # of a run that was killed
            shutil.rmtree(torn, ignore_errors=True)
        seeds = _Seeds(plan, folder, episodes)
        for played in _play_all(plan, folder, seeds, processes, robot):
            seeds.put(played)
            done(played, seeds.kept)
        kept, left_out = seeds.split()
        with disk_errors(out):
            _assemble(plan, folder, out, kept, robot or load_robot(find_task(plan.task).robot))
            shutil.rmtree(folder, ignore_errors=True)
    return ExpertRecording(out, tuple(kept), tuple(left_out))


def play(
    plan: RecordPlan, folder: Path, seed: int, robot: RobotDescription | None, stopped: Callable[[], bool]
) -> Played:
    """Play one seed and write its part and its outcome to `folder`.

    Raises:
        RecordingError: the disk is full or fails; nothing of this seed is left.
        KeyboardInterrupt: `stopped` returned True; nothing of this seed is left.
    """
    world = _world(plan.task, plan.setting, robot)
    part = folder / part_name(seed)
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed before it could write the result
    options = RolloutOptions(plan.fps, plan.cameras, plan.time_limit, plan.quality, plan.kicks)
    actor = ExpertActor(lambda episode: make_expert(episode.world))
    played: Played | None = None
    with contextlib.suppress(_NotKept), new_part(plan, part, world) as sink:
        result = rollout(world, actor, seed=seed, options=options, observers=(sink, _Stopper(stopped)))
        played = Played.of(result)
        if not plan.keeps(played):
            raise _NotKept
        sink.finish(played)
    assert played is not None
    with disk_errors(folder):
        write_whole(folder / f"{part_name(seed)}.json", asdict(played))
    return played


class _NotKept(Exception):
    """Leaves the block of a part without writing it."""


class _Stopper:
    """Aborts a roll-out."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped

    def on_frame(self, frame: Frame) -> None:
        if self._stopped():
            raise KeyboardInterrupt


class _Seeds:
    """Seeds that have been played, the next ones, and those that belong in the recording."""

    def __init__(self, plan: RecordPlan, folder: Path, episodes: int) -> None:
        self._plan, self._folder, self._episodes = plan, folder, episodes
        self._played: dict[int, Played] = {}
        self._next = plan.seed
        self._running = 0

    @property
    def kept(self) -> int:
        """Number of episodes kept."""
        return min(self._episodes, sum(map(self._plan.keeps, self._played.values())))

    def take(self) -> int | None:
        """Return the next seed to play, or None while the running ones may be enough.

        Raises:
            RecordingError: too many have failed.
        """
        while True:
            failed = [one for one in self._played.values() if not self._plan.keeps(one)]
            if len(failed) > self._episodes + SPARE:
                last = failed[-1]
                raise RecordingError(
                    f"the expert of {self._plan.task} fails too often: {len(failed)} of {len(self._played)} episodes",
                    value=last.error or f"seed {last.seed}: {last.score} of 3 stages after {last.time:.1f} s",
                    where=f"the setting or the time limit; successful episodes are in {self._folder}",
                )
            if self.kept + self._running >= self._episodes:
                return None
            seed, self._next = self._next, self._next + 1
            known = read_played(self._folder, seed)
            if known is None:
                self._running += 1
                return seed
            self._played[seed] = known

    def put(self, played: Played) -> None:
        """Note the outcome of a seed that was taken."""
        self._running -= 1
        self._played[played.seed] = played

    def split(self) -> tuple[list[Played], list[Played]]:
        """Return the episodes of the recording, in the order of their seeds, and the others."""
        ordered = [self._played[seed] for seed in sorted(self._played)]
        kept = [one for one in ordered if self._plan.keeps(one)][: self._episodes]
        return kept, [one for one in ordered if one not in kept]


def _play_all(
    plan: RecordPlan, folder: Path, seeds: _Seeds, processes: int, robot: RobotDescription | None
) -> Iterator[Played]:
    if processes == 1:
        while (seed := seeds.take()) is not None:
            yield play(plan, folder, seed, robot, lambda: False)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin_worker, initargs=(stop,))
    running: set[Future[Played]] = set()
    try:
        while True:
            while len(running) < processes and (seed := seeds.take()) is not None:
                running.add(pool.submit(_play_in_worker, plan, folder, seed, robot))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool as error:
        raise RecordingError(
            "a recording process was killed (out of memory?)",
            where=f"--processes; finished episodes are in {folder}",
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


_stop: Any = None
"""In a worker: the event that ends it."""


def _begin_worker(stop: Any) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    end_with_parent()


def _play_in_worker(plan: RecordPlan, folder: Path, seed: int, robot: RobotDescription | None) -> Played:
    return play(plan, folder, seed, robot, _stop.is_set)


@functools.lru_cache(maxsize=1)
def _world(task: str, setting: Setting, robot: RobotDescription | None) -> TaskWorld:
    """Return a world; building one takes as long as playing it for some seconds."""
    return TaskWorld(find_task(task), setting=setting, robot=robot)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a work folder.

    Raises:
        RecordingError: another process holds it.
    """
    with disk_errors(folder):
        lock = (folder / "lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RecordingError(
                f"another process records to {folder}", where="that process, or the argument OUT"
            ) from error
        yield


def _assemble(plan: RecordPlan, folder: Path, out: Path, kept: list[Played], robot: RobotDescription) -> None:
    """Put the parts together in the work folder, then move the whole to `out`."""
    beside = folder / "whole"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    if plan.format is Format.LEROBOT:
        writer = LeRobotWriter(beside, version=plan.version, fps=plan.fps, robot=robot, cameras=plan.cameras)
        for played in kept:
            writer.adopt(folder / part_name(played.seed))
        writer.finish()
    else:
        lines = [json.dumps(asdict(played), ensure_ascii=False) for played in kept]
        (beside / INDEX).write_text("\n".join(lines) + "\n", encoding="utf-8")
        for played in kept:
            name = part_name(played.seed)
            shutil.copytree(folder / name, beside / name, copy_function=link_or_copy)
    about = {**plan.as_json(), "last_seed": kept[-1].seed}
    write_whole(beside / ("meta" if plan.format is Format.LEROBOT else ".") / ABOUT, about)
    beside.rename(out)
