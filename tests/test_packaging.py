"""What is shipped is what git holds: wheel, sdist and editable install carry the same definitions and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import occorr
from occorr import definitions, resources, rules

ROOT = Path(__file__).resolve().parent.parent
BACKUPS = (
    "parsers/openclaw.toml~",
    "parsers/.openclaw.toml.swp",
    "parsers/#openclaw.toml#",
    "parsers/.#openclaw.toml",
    "reports/timeline/main.js.orig",
    "occorr/rules/unknown.toml.bak",
    "occorr/cli/analyze.py.rej",
)
MOVED = {"parsers/": "occorr/_builtin/parsers/", "reports/": "occorr/_builtin/reports/"}
SHIPPED = ("occorr/", *MOVED)
SDIST = (
    *SHIPPED,
    "sample_logs/",
    "tests/",
    ".ci/",
    "Makefile",
    "constraints.txt",
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "pyproject.toml",
    ".gitignore",
)


def tracked() -> list[str]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git checkout: nothing to compare with")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(f for f in listed.split("\0") if f and (ROOT / f).is_file())


def moved(name: str) -> str:
    return next(
        (inside + name.removeprefix(outside) for outside, inside in MOVED.items() if name.startswith(outside)), name
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The tracked files as they are now, among backups as editors leave them."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    place = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    for name in BACKUPS:
        (place / name).write_text("left behind", encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def built(checkout) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout / "dist"


def members(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def test_the_wheel_holds_what_git_holds(built):
    inside = [f for f in members(next(built.glob("*.whl"))) if ".dist-info/" not in f]
    assert inside == sorted(moved(f) for f in tracked() if f.startswith(SHIPPED))


def test_the_sdist_holds_what_git_holds(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        inside = sorted(m.name.split("/", 1)[1] for m in archive.getmembers() if m.isfile())
    assert inside == sorted([*(f for f in tracked() if f.startswith(SDIST)), "PKG-INFO"])


def test_an_editable_install_reads_the_checkout_and_keeps_no_copies(checkout, tmp_path):
    code = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=checkout, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    inside = [f for f in members(wheel) if ".dist-info/" not in f]
    assert inside == ["_occorr.pth"]
    with zipfile.ZipFile(wheel) as archive:
        assert Path(archive.read("_occorr.pth").decode().strip()) == checkout


def test_git_ignores_nothing_that_is_shipped():
    """A pattern such as `*.log` or `reports/` would take sample logs or reports out of git and the sdist without a word."""
    tracked()
    names = [
        "sample_logs/x/gateway.log",
        "sample_logs/x/out/log.json",
        "reports/weekly/build.js",
        "parsers/x.toml",
        "occorr/rules/dist.toml",
        "tests/lab/build/x.log",
    ]
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", *names], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert not found.stdout


@pytest.mark.smoke
def test_the_version_is_said_once():
    assert occorr.__version__ == metadata.version("occorr")


@pytest.mark.smoke
def test_the_installed_package_holds_its_definitions():
    assert {"openclaw", "nginx_access"} <= set(definitions.builtin().formats)
    assert rules.builtin()
    assert (resources.folder("reports") / "timeline" / "template.html.j2").is_file()
    assert (Path(occorr.__file__).parent / "py.typed").is_file()


def run(*arguments: str, text: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("occorr")
    return subprocess.run(
        [str(command), *arguments], input=text, cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.smoke
def test_the_installed_command_analyses_a_sample(tmp_path):
    sample = ROOT / "sample_logs" / "oom-then-deploy"
    done = run("analyze", str(sample), "-o", "result", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "restart.oom" in done.stdout
    written = {f.name for f in (tmp_path / "result").iterdir()}
    tables = {f"{t}.parquet" for t in ("timeline", "closes", "evidence", "incidents", "facts", "clocks", "sources")}
    assert written >= tables | {"report.md", "report.json", "timeline.html"}


@pytest.mark.smoke
def test_the_installed_command_reads_a_pasted_line(tmp_path):
    line = "2026-11-21T05:52:44.538+01:00 [ws] unauthorized conn=070d4c4a-10fa-4e7e-89f2-7636f2b8765b remote=127.0.0.1 client=cli cli v2026.3.13 reason=token_mismatch\n"
    done = run("analyze", "-", text=line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.smoke
@pytest.mark.parametrize(
    "arguments", [("--version",), ("--help",), ("formats", "list"), ("rules", "list")], ids=" ".join
)
def test_the_installed_command_tells_what_it_knows(arguments, tmp_path):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.smoke
def test_nothing_parsable_is_said_with_its_exit_code(tmp_path):
    assert run("analyze", "-", text="hello\nworld\n", cwd=tmp_path).returncode == 3
