# SPDX-License-Identifier: Apache-2.0
"""A tiny DUST policy on the suite's Franka Research 3: in replay, and through real nodes against the simulated arm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wam.data.bag.stamps import BagMessage
from wam.devices.loader import load_robot
from wam.evaluation.replay.engine import ChunkEvent, ContextEvent, RefusalEvent, ReplaySettings
from wam.evaluation.replay.offline import OfflineReplay
from wam.policies.bundles import load_policy, make_tiny_bundle
from wam.policies.dust import franka
from wam.runtime.ingest.ingest import StreamIngest
from wam.runtime.policy import require_fit

ROOT = Path(__file__).resolve().parents[3]
MS = 1_000_000
S = 1000 * MS
CHUNKS = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("franka") / "bundle"
    return make_tiny_bundle(directory, "dust", robot=franka.layout()).directory


def test_the_bundle_fits_the_robot_file(bundle: Path) -> None:
    robot = load_robot("franka")
    contract = load_policy(bundle, planner=False, executor=False).contract
    require_fit(contract, robot)
    assert contract.action_joints == robot.joint_names
    assert contract.camera_names == tuple(camera.name for camera in robot.cameras)
    for joint, value in zip(robot.joints, franka.READY_POSE, strict=False):
        assert joint.home == pytest.approx(value, abs=1e-3)


Delivery = tuple[BagMessage, Callable[[StreamIngest], bool]]


def recording(*, seconds: float) -> Iterator[Delivery]:
    """Joint states at 100 Hz and both cameras at 25 Hz, as the drivers of the robot file publish them."""
    robot = load_robot("franka")

    def at(time_ns: int, deliver: Callable[[StreamIngest], bool]) -> Delivery:
        return BagMessage("/any", "", time_ns, time_ns, time_ns, None), deliver

    def header(time_ns: int) -> Any:
        stamp = SimpleNamespace(sec=time_ns // S, nanosec=time_ns % S)
        return SimpleNamespace(stamp=stamp, frame_id="")

    def joints(time_ns: int) -> Callable[[StreamIngest], bool]:
        def deliver(ingest: StreamIngest) -> bool:
            for group in robot.groups:
                names = list(group.driver_names)
                home = np.array([joint.home for joint in group.joints])
                message = SimpleNamespace(
                    header=header(time_ns), name=names, position=home, velocity=np.zeros(len(names))
                )
                ingest.put_joint_state(group.name, message)
            return False

        return deliver

    def images(time_ns: int) -> Callable[[StreamIngest], bool]:
        def deliver(ingest: StreamIngest) -> bool:
            for camera in robot.cameras:
                pixels = np.full((camera.height, camera.width, 3), time_ns // (40 * MS) % 200, np.uint8)
                ingest.put_image(
                    camera.name,
                    SimpleNamespace(
                        header=header(time_ns),
                        height=camera.height,
                        width=camera.width,
                        encoding="rgb8",
                        step=3 * camera.width,
                        is_bigendian=0,
                        data=pixels.ravel(),
                    ),
                )
            return True

        return deliver

    for i in range(int(seconds * 100)):
        time_ns = S + i * 10 * MS
        yield at(time_ns, joints(time_ns))
        if i % 4 == 0:
            yield at(time_ns, images(time_ns))


def test_replay_runs_the_policy_on_a_recording_of_the_franka(bundle: Path) -> None:
    settings = ReplaySettings(planner_latency_ns=60 * MS, executor_latency_ns=30 * MS, planner_period_ns=0)
    replay = OfflineReplay(robot=load_robot("franka"), policy=load_policy(bundle), settings=settings)
    events = list(replay.run(recording(seconds=2.0)))
    chunks = [e.chunk for e in events if isinstance(e, ChunkEvent)]
    contexts = [e for e in events if isinstance(e, ContextEvent)]
    assert len(chunks) > 15
    assert len(contexts) > 15
    assert not [e for e in events if isinstance(e, RefusalEvent) and e.time_ns > 2 * S]
    for chunk in chunks:
        assert chunk.joint_names == (*franka.ARM_JOINTS, franka.GRIPPER)
        assert np.abs(chunk.rows[:, :7] - np.array(franka.READY_POSE)).max() < 0.4
        assert set(chunk.rows[:, 7]) <= {0.0, franka.GRIPPER_HALF_WIDTH}


@pytest.mark.ros
@pytest.mark.sim
@pytest.mark.camera
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_planner_executor_and_safety_nodes_move_the_simulated_arm(bundle: Path, tmp_path: Path) -> None:
    """Contexts cross from process to process through shared memory; the safety node alone commands the arm."""
    from rig import running_rig

    from wam.core.verdict import Ladder
    from wam.stack.node_specs import StackOptions, policy_processes, safety, sim

    with running_rig(tmp_path / "logs", robot="franka") as rig:
        options = StackOptions(robot="franka", policy=str(bundle), composed=False)
        recorder = rig.recorder

        def arm(of: Any) -> Any:
            return of.measured["arm"].series().positions

        for spec in (sim(options), safety(options), *policy_processes(options)):
            rig.start(spec)
        rig.until("joint states", lambda r: bool(r.measured["arm"].stamps))
        start = arm(recorder)[0]
        rig.until(f"{CHUNKS} chunks", lambda r: len(r.chunks) >= CHUNKS)
        rig.until("rung NOMINAL", lambda r: any(e.ladder_to == Ladder.NOMINAL for e in r.safety))
        rig.until("a moving arm", lambda r: np.abs(arm(r)[-1] - start).max() > 0.01)
        contract = load_policy(bundle, planner=False, executor=False).contract
        for record in recorder.chunks:
            assert record.chunk.contract_hash == contract.contract_hash
            assert record.chunk.joint_names == contract.action_joints
        assert {c.header.instruction for c in recorder.contexts} == {contract.instruction}
        assert not recorder.problems
