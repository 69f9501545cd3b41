# SPDX-License-Identifier: Apache-2.0
"""Sets up `.venv`: environment, pinned requirements, wam_msgs, and the project itself.

Started by `tools/setup/setup.sh` with a plain Python (standard library only). Every stage writes a stamp, the hash of
its inputs, as its last action; a stage whose stamp is up to date is skipped, so a second run takes under a second.
An interrupted run can be repeated. Of two concurrent runs, the second waits for the first.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "setup"))

from packages import INSTALLERS, Installer  # noqa: E402

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STATE = VENV / ".wam"
INSTALLING = STATE / "installing"
"""Exists while pip changes the environment; if it exists at the start, pip was killed before it finished."""
REQUIREMENTS = [
    ROOT / "requirements" / f"{name}.txt"
    for name in ("base", "ros", "model", "train", "sim", "robots", "security", "export", "dev")
]
WHEEL_INCLUDES = ROOT / "tools" / "setup" / "wheel_includes.cmake"
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
MIN_CMAKE = (3, 20)
DISK_GB = {"cpu": 3.0, "cuda": 7.0}
"""Size of `.venv`, by the build of torch."""

SIGN_OF_LIFE_S = 15.0
"""Where the output is no terminal: the time between two lines that say what is being done."""
FOREIGN = re.compile(
    r"PYTHONPATH|PYTHONHOME|PYTHONSTARTUP|VIRTUAL_ENV|_ROS_WHEELS_BOOTSTRAP_COMPLETE|LD_LIBRARY_PATH|LD_PRELOAD"
    r"|MAKEFLAGS|MFLAGS|MAKELEVEL|AMENT_.*|COLCON_.*|ROS_.*|RMW_.*|CMAKE_PREFIX_PATH|PIP_(TARGET|PREFIX|ROOT|USER|REQUIREMENT|CONSTRAINT)"
)
"""Variables of a sourced ROS distribution, another environment or pip that would leak into the set-up."""


class SetupError(Exception):
    """The set-up cannot continue; the text is one line for the user."""


def main() -> int:
    """Run the stages that are not done yet and return the exit code."""
    started = time.monotonic()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            line_buffering=True
        )  # in a log, the stages come before what went wrong in them
    try:
        _check_place()
        with _only_one():
            worked = _prepare()
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run `make setup` again", file=sys.stderr)
        return 130
    if worked:
        print(f"set up in {time.monotonic() - started:.0f} s")
    if not _has_egl():
        print(
            "note: no EGL, so simulated cameras cannot render (the rest works): "
            "sudo apt install libegl1 libgl1-mesa-dri",
            file=sys.stderr,
        )
    return 0


def _prepare() -> bool:
    """Bring every stage up to date; return whether anything had to be done."""
    worked = False
    requirements = _digest([*REQUIREMENTS, ROOT / "requirements" / "constraints.txt"], _torch_flavour())
    messages = _digest(
        [
            path
            for path in (ROOT / "wam_msgs").rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ],
        WHEEL_INCLUDES.read_text(),
        (ROOT / "requirements" / "ros.txt").read_text(),
    )
    project = _digest(
        [ROOT / name for name in ("setup.py", "setup.cfg", "package.xml", "pyproject.toml")],
        *sorted(path.parent.name for path in ROOT.glob("*/__init__.py")),
    )
    if not _venv_usable():
        _make_venv()
        worked = True
    for stage, digest, work in (
        ("requirements", requirements, _install_requirements),
        ("messages", messages, _build_messages),
        ("project", project, _install_project),
    ):
        stamp = STATE / stage
        if stamp.is_file() and stamp.read_text() == digest:
            continue
        work()
        _write_stamp(stamp, digest)
        worked = True
    return worked


# -- stages ----------------------------------------------------------------------------------------------------------


def _venv_usable() -> bool:
    """Return whether `.venv` can be kept; one that was moved, broken or only partly installed is recreated."""
    if not PYTHON.exists() or INSTALLING.exists():
        return False
    place = STATE / "place"
    if place.is_file() and place.read_text() != str(ROOT):
        return False
    if not place.is_file():  # made by hand, or killed while it was made
        if subprocess.run(
            [PYTHON, "-I", "-m", "pip", "--version"], capture_output=True, env=_clean_environment()
        ).returncode:
            return False
        _write_stamp(place, str(ROOT))
    config = (VENV / "pyvenv.cfg").read_text() if (VENV / "pyvenv.cfg").is_file() else ""
    version = re.search(r"^version(?:_info)? *= *(\d+)\.(\d+)", config, re.MULTILINE)
    if version is None:
        return False
    minor = (int(version[1]), int(version[2]))
    if minor != sys.version_info[:2]:
        if not (3, 10) <= minor <= (3, 13):
            return False
        print(
            f"note: .venv keeps its Python {minor[0]}.{minor[1]}; `make clean` first to change it",
            file=sys.stderr,
        )
    return True


def _make_venv() -> None:
    _check_system()
    print(f"[1/4] virtual environment for Python {sys.version_info[0]}.{sys.version_info[1]} in .venv")
    if VENV.is_symlink() or (VENV.exists() and not VENV.is_dir()):
        raise SetupError(".venv is not a directory; remove or rename it")
    if VENV.is_dir() and any(VENV.iterdir()) and not (VENV / "pyvenv.cfg").is_file():
        raise SetupError(".venv exists but is not a virtual environment; remove or rename it")
    _run([sys.executable, "-I", "-m", "venv", "--clear", str(VENV)], "venv")
    STATE.mkdir(parents=True, exist_ok=True)
    _write_stamp(STATE / "place", str(ROOT))


def _install_requirements() -> None:
    size = DISK_GB[_torch_flavour()]
    print(f"[2/4] pinned requirements, including ROS 2 (the first time: about {size:.0f} GB of disk)")
    STATE.mkdir(parents=True, exist_ok=True)
    INSTALLING.touch()
    if _torch_flavour() == "cpu" and not _torch_installed():
        _install_cpu_torch()
    files = [part for path in REQUIREMENTS for part in ("-r", str(path))]
    _installer().install([*files, "--prefer-binary"], "requirements", wheels_only=True)
    INSTALLING.unlink()


def _install_cpu_torch() -> None:
    """Prefer the build without CUDA: first from the indexes that pip is configured with, then from PyTorch's own."""
    wanted = f"{_torch_pin()}+cpu"
    print("note: torch without CUDA is looked for first; it may not be found")
    for extra in ([], ["--index-url", CPU_TORCH_INDEX, "--retries", "1", "--timeout", "15"]):
        # What a try that finds nothing writes looks like the end of the set-up; it is in the log.
        with contextlib.suppress(SetupError), contextlib.redirect_stderr(io.StringIO()):
            _installer().install(["--no-deps", *extra, wanted], "torch", wheels_only=True)
            return
    print(
        "note: no CPU build of torch is reachable; installing PyPI's, which includes CUDA: set-up goes on, with "
        f"about {DISK_GB['cuda']:.0f} GB of disk",
        file=sys.stderr,
    )


def _build_messages() -> None:
    _check_system()
    print("[3/4] wam_msgs (half a minute)")
    build = STATE / "wam_msgs"
    # Kept beside the build folder: after a failed build, the files of the previous one must still be known.
    record, manifest = STATE / "wam_msgs.installed", build / "install_manifest.txt"
    lists = [path.read_text() for path in (record, manifest) if path.is_file()]
    _write_stamp(record, "\n".join(lists))
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir(parents=True)
    _run(
        [
            "cmake", "-S", str(ROOT / "wam_msgs"), "-B", str(build),
            f"-DCMAKE_PREFIX_PATH={VENV}", f"-DCMAKE_INSTALL_PREFIX={VENV}", f"-DPython3_EXECUTABLE={PYTHON}",
            f"-DCMAKE_PROJECT_INCLUDE={WHEEL_INCLUDES}", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF",
        ],
        "wam_msgs",
    )  # fmt: skip
    _run(["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)], "wam_msgs")
    _remove_installed_messages(record.read_text().splitlines())
    _run(["cmake", "--install", str(build)], "wam_msgs")
    _write_stamp(record, manifest.read_text())
    # From the root, `import wam_msgs` would find the source folder as a namespace; -I keeps it out of the path.
    _run([str(PYTHON), "-I", "-c", "import wam_msgs.msg, wam_msgs.srv, wam_msgs.action"], "wam_msgs")


def _remove_installed_messages(files: Sequence[str]) -> None:
    """Remove what an earlier build installed, so that no file of a deleted message remains."""
    for path in {Path(name) for name in files}:
        if VENV in path.parents:
            path.unlink(missing_ok=True)


def _install_project() -> None:
    print("[4/4] the wam command")
    _installer().install(["--no-deps", "--no-build-isolation", "--editable", str(ROOT)], "project")


# -- checks ----------------------------------------------------------------------------------------------------------


def _check_place() -> None:
    """Refuse, before anything is downloaded, a checkout that the set-up cannot work in.

    Raises:
        SetupError: its path or its file system is in the way.
    """
    if not str(ROOT).isascii():
        raise SetupError(
            f"the path of this checkout, {ROOT}, has other than ASCII characters, which the generators of ROS "
            "messages cannot write into their files; move the checkout, e.g. to ~/wam_deploy"
        )
    place = VENV if VENV.is_dir() else ROOT
    if not os.access(ROOT, os.W_OK | os.X_OK) or not os.access(place, os.W_OK | os.X_OK):
        raise SetupError(f"{place} is not writable, and .venv has to be made in it; copy the checkout")
    if not (STATE / "requirements").is_file():
        needed, free = DISK_GB[_torch_flavour()], shutil.disk_usage(ROOT).free / 1e9
        if free < needed:
            raise SetupError(
                f"{free:.1f} GB are free where {ROOT} lies, and the set-up takes about {needed:.0f} GB"
                + ("; WAM_TORCH=cpu takes 3 GB" if needed > DISK_GB["cpu"] else "")
            )


def _check_system() -> None:
    """Refuse to start if prerequisites are missing; list all of them and their Debian packages in one line.

    Raises:
        SetupError: a compiler, CMake, Python's headers or its venv module is missing or too old.
    """
    missing: list[tuple[str, str]] = []
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name):
        missing.append(("a C++ compiler", "g++"))
    if not any(shutil.which(name) for name in (os.environ.get("CC", ""), "cc", "gcc", "clang") if name):
        missing.append(("a C compiler", "gcc"))
    version = _cmake_version()
    if version is None:
        missing.append(("CMake", "cmake"))
    elif version < MIN_CMAKE:
        raise SetupError(
            f"CMake {version[0]}.{version[1]} is too old, 3.20 or newer is needed: sudo apt install cmake"
        )
    suffix = f"{sys.version_info[0]}.{sys.version_info[1]}" if sys.executable.startswith("/usr/bin/") else "3"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append(("the Python headers", f"python{suffix}-dev"))
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        missing.append(("Python's venv module", f"python{suffix}-venv"))
    if missing:
        names = ", ".join(name for name, _ in missing)
        raise SetupError(
            f"missing: {names}; install: sudo apt install {' '.join(package for _, package in missing)}"
        )


def _cmake_version() -> tuple[int, int] | None:
    cmake = shutil.which("cmake")
    if cmake is None:
        return None
    text = subprocess.run(
        [cmake, "--version"], capture_output=True, text=True, env=_clean_environment()
    ).stdout
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _has_egl() -> bool:
    """Return whether libEGL loads and a vendor (Mesa or a GPU's driver) is registered with it."""
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    places = (Path("/usr/share/glvnd/egl_vendor.d"), Path("/etc/glvnd/egl_vendor.d"))
    return any(any(place.glob("*.json")) for place in places if place.is_dir())


def _torch_flavour() -> str:
    """Return "cpu" or "cuda": WAM_TORCH if it is set, otherwise by whether an NVIDIA driver is loaded."""
    chosen = os.environ.get("WAM_TORCH", "")
    if chosen not in ("", "cpu", "cuda"):
        raise SetupError(f"WAM_TORCH: got {chosen!r}; allowed: cpu, cuda, or unset")
    return chosen or ("cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu")


def _torch_pin() -> str:
    pin = re.search(r"^torch==\S+", (ROOT / "requirements" / "model.txt").read_text(), re.MULTILINE)
    if pin is None:
        raise SetupError("requirements/model.txt pins no torch")
    return pin[0]


def _torch_installed() -> bool:
    version = _torch_pin().partition("==")[2]
    return any((VENV / "lib").glob(f"python3*/site-packages/torch-{version}*.dist-info"))


# -- plumbing --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Hold the lock of this checkout; the kernel frees it when this process and its children are gone."""
    with (ROOT / ".setup.lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another setup of this checkout is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _digest(files: Sequence[Path], *texts: str) -> str:
    total = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes() if path.is_file() else b"missing"
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + hashlib.sha256(content).digest())
    for text in texts:
        total.update(hashlib.sha256(text.encode()).digest())
    return total.hexdigest()


def _write_stamp(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def _clean_environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment["PIP_USER"] = "0"
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return environment


@lru_cache(maxsize=1)
def _installer() -> Installer:
    """Return what installs packages: WAM_INSTALLER, or uv with pip behind it."""
    chosen = os.environ.get("WAM_INSTALLER", "")
    if chosen not in ("", *INSTALLERS):
        raise SetupError(f"WAM_INSTALLER: got {chosen!r}; allowed: {', '.join(INSTALLERS)}, or unset")
    return Installer(PYTHON, _run, chosen, _clean_environment())


def _run(command: Sequence[str], log_name: str, variables: Mapping[str, str] | None = None) -> None:
    """Run a command with its output in `.venv/.wam/NAME.log` and, on a terminal, its last line on the screen.

    Raises:
        SetupError: it failed; its last lines have been printed.
    """
    lines: list[str] = []
    live = sys.stdout.isatty()
    said = time.monotonic()
    width = shutil.get_terminal_size().columns - 7
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**_clean_environment(), **(variables or {})},
        cwd=ROOT,
        close_fds=False,  # the children hold the lock, so a pip that outlives this process keeps the next one waiting
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line)
            if not line.strip():
                continue
            if live:
                print(f"\r\x1b[K      {line.strip()[:width]}", end="", flush=True)
            elif time.monotonic() - said > SIGN_OF_LIFE_S:
                said = time.monotonic()
                print(f"      {line.strip()[:100]}")
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    finally:
        if live:
            print("\r\x1b[K", end="", flush=True)
    process.stdout.close()
    code = process.wait()
    log = STATE / f"{log_name}.log"
    if STATE.parent.is_dir():
        STATE.mkdir(exist_ok=True)
        log.write_text("".join(lines))
    if code != 0:
        sys.stderr.write("".join(lines[-15:]))
        raise SetupError(f"`{' '.join(command[:6])} ...` exited with code {code}; full output in {log}")


if __name__ == "__main__":
    sys.exit(main())
