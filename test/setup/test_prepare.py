# SPDX-License-Identifier: Apache-2.0
"""tools/setup: one-line refusals, stamps that are written last, and recovery from half-made environments."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("requirements", "messages", "project")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout without an environment, as far as the set-up scripts look."""
    root = tmp_path / "a checkout"
    for folder in ("tools/setup", "requirements", "wam_msgs"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def prepare(copy: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The set-up script of that checkout as a module; its stages only note that they ran."""
    path = copy / "tools" / "setup" / "prepare.py"
    spec = importlib.util.spec_from_file_location("wam_test_prepare", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ran: list[str] = []
    module.ran = ran  # type: ignore[attr-defined]

    def make_venv() -> None:
        ran.append("venv")
        shutil.rmtree(module.VENV, ignore_errors=True)
        module.PYTHON.parent.mkdir(parents=True)
        module.PYTHON.symlink_to(sys.executable)
        (module.VENV / "pyvenv.cfg").write_text(f"version = {sys.version.split()[0]}\n")
        module._write_stamp(module.STATE / "place", str(module.ROOT))

    monkeypatch.setattr(module, "_make_venv", make_venv)
    monkeypatch.setattr(module, "_install_requirements", lambda: ran.append("requirements"))
    monkeypatch.setattr(module, "_build_messages", lambda: ran.append("messages"))
    monkeypatch.setattr(module, "_install_project", lambda: ran.append("project"))
    monkeypatch.setattr(module, "_has_egl", lambda: True)
    return module


def again(prepare: ModuleType) -> list[str]:
    """Run the set-up and return which stages did something."""
    prepare.ran.clear()
    assert prepare.main() == 0
    return list(prepare.ran)


def setup_script(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", str(root / "tools" / "setup" / "setup.sh")],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_second_run_does_nothing(prepare: ModuleType) -> None:
    assert again(prepare) == ["venv", *STAGES]
    assert again(prepare) == []


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ("requirements/dev.txt", ["requirements"]),
        ("requirements/constraints.txt", ["requirements"]),
        ("requirements/ros.txt", ["requirements", "messages"]),
        ("wam_msgs/msg/KVContext.msg", ["messages"]),
        ("tools/setup/wheel_includes.cmake", ["messages"]),
        ("setup.py", ["project"]),
    ],
)
def test_a_change_repeats_its_own_stage_only(
    prepare: ModuleType, copy: Path, changed: str, stages: list[str]
) -> None:
    again(prepare)
    with (copy / changed).open("a") as file:
        file.write("# changed\n")
    assert again(prepare) == stages


def test_a_message_that_was_removed_repeats_the_build(prepare: ModuleType, copy: Path) -> None:
    again(prepare)
    (copy / "wam_msgs" / "msg" / "SafetyEvent.msg").unlink()
    assert again(prepare) == ["messages"]


def test_a_stage_that_fails_is_repeated_and_those_before_it_are_not(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise prepare.SetupError("the build broke")

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "_build_messages", fail)
        assert prepare.main() == 1
    assert capsys.readouterr().err == "error: the build broke\n"
    assert again(prepare) == ["messages", "project"]


def test_an_environment_in_which_pip_was_killed_is_made_anew(prepare: ModuleType) -> None:
    """pip killed half-way leaves packages that look installed; only a new environment is certain."""
    again(prepare)
    prepare.INSTALLING.touch()
    assert again(prepare) == ["venv", *STAGES]


def test_a_moved_checkout_gets_a_new_environment(prepare: ModuleType) -> None:
    """The scripts in .venv/bin name the folder in which they were made."""
    again(prepare)
    (prepare.STATE / "place").write_text("/somewhere/else")
    assert again(prepare) == ["venv", *STAGES]


def test_a_python_that_is_gone_gets_a_new_environment(prepare: ModuleType) -> None:
    again(prepare)
    prepare.PYTHON.unlink()
    assert again(prepare) == ["venv", *STAGES]


def test_tries_to_find_a_smaller_torch_leave_no_errors_on_the_screen(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Newcomers read twenty lines of `ResolutionImpossible` as the end of the set-up."""

    class Installer:
        def install(self, arguments: list[str], log: str, *, wheels_only: bool) -> None:
            assert wheels_only
            prepare._run(
                [sys.executable, "-c", "print('ERROR: ResolutionImpossible'); raise SystemExit(1)"], log
            )

    monkeypatch.setattr(prepare, "_installer", Installer)
    prepare._install_cpu_torch()
    said = "".join(capfd.readouterr())
    assert "installing PyPI's, which includes CUDA" in said
    assert "ResolutionImpossible" not in said


def test_an_unknown_choice_of_torch_is_refused(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAM_TORCH", "rocm")
    assert prepare.main() == 1
    assert capsys.readouterr().err == "error: WAM_TORCH: got 'rocm'; allowed: cpu, cuda, or unset\n"


def test_what_an_earlier_build_installed_is_removed_but_nothing_outside(
    prepare: ModuleType, tmp_path: Path
) -> None:
    inside, outside = prepare.VENV / "share" / "old.msg", tmp_path / "precious"
    inside.parent.mkdir(parents=True)
    for path in (inside, outside):
        path.touch()
    prepare._remove_installed_messages([str(inside), str(outside), str(prepare.VENV / "gone"), ""])
    assert not inside.exists()
    assert outside.exists()


def test_missing_build_tools_are_named_in_one_line_with_their_packages(copy: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-I", str(copy / "tools" / "setup" / "prepare.py")],
        env={"PATH": str(empty), "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "a C++ compiler, a C compiler, CMake; install: sudo apt install g++ gcc cmake" in done.stderr
    assert not (copy / ".venv").exists()


def test_a_python_that_is_too_old_is_refused_in_one_line(copy: Path, tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = setup_script(copy, PYTHON=str(old))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Python 3.9.2" in done.stderr
    assert "make setup PYTHON=" in done.stderr


def test_a_python_that_is_not_there_is_refused_in_one_line(copy: Path) -> None:
    done = setup_script(copy, PYTHON="python3.99")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "sudo apt install python3 python3-venv python3-dev" in done.stderr


def test_a_folder_that_is_no_environment_is_not_overwritten(copy: Path) -> None:
    (copy / ".venv").mkdir()
    (copy / ".venv" / "thesis.tex").write_text("precious")
    done = subprocess.run(
        [sys.executable, "-I", str(copy / "tools" / "setup" / "prepare.py")],
        env={"PATH": os.environ["PATH"], "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "is not a virtual environment" in done.stderr
    assert (copy / ".venv" / "thesis.tex").read_text() == "precious"


def run_prepare(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(root / "tools" / "setup" / "prepare.py")],
        env={"PATH": os.environ["PATH"], "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_path_that_is_not_ascii_is_named_before_anything_is_downloaded(copy: Path, tmp_path: Path) -> None:
    """CMake failed in the messages, after the whole download."""
    moved = copy.rename(tmp_path / "Übung")
    done = run_prepare(moved)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "has other than ASCII characters" in done.stderr
    assert not (moved / ".venv").exists()


def test_a_checkout_that_cannot_be_written_is_named_in_one_line(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended in a traceback of the lock file."""
    monkeypatch.setattr(prepare.os, "access", lambda path, mode: Path(path) != prepare.ROOT)
    assert prepare.main() == 1
    error = capsys.readouterr().err
    assert "is not writable" in error
    assert len(error.splitlines()) == 1
    assert prepare.ran == []


def test_a_disk_that_is_too_full_is_named_before_anything_is_downloaded(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setenv("WAM_TORCH", "cuda")
    monkeypatch.setattr(prepare.shutil, "disk_usage", lambda place: usage._replace(free=5_000_000_000))
    assert prepare.main() == 1
    assert "5.0 GB are free" in (error := capsys.readouterr().err)
    assert "about 7 GB; WAM_TORCH=cpu takes 3 GB" in error
    assert prepare.ran == []


def test_an_unknown_installer_is_refused(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAM_INSTALLER", "conda")
    prepare._installer.cache_clear()
    with pytest.raises(prepare.SetupError, match="got 'conda'; allowed: uv, pip, or unset"):
        prepare._installer()
