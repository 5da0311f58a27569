"""Releases: the same bits from any folder, a tar file that needs no git, an installation that works where it is."""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import common
from common import ROOT, Job, Results, Skip, assert_same
from project import texts

# A part of the program, unless all of it is wanted (make check-long).
IS_WHOLE = "AUTOLORA_WHOLE_BUILD" in os.environ
PART = ["SOURCES=src/cmd_info.c src/base/report.c src/io/h5driver.c", "build/release/libautolora.a"]
BUILT = "bin/autolora" if IS_WHOLE else "build/release/libautolora.a"


def make(*arguments, folder="."):
    """What it prints. A make above this one has set variables that are not meant."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    ran = subprocess.run(["make", "--no-print-directory", *arguments], cwd=folder, capture_output=True, text=True,
                         env=environment)
    assert ran.returncode == 0, f"{arguments}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def git(*arguments):
    ran = subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t", *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran
    return ran.stdout


def repository(folder):
    """A clone in which this process goes on, with what is not committed yet committed."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True)
    if listed.returncode != 0:
        raise Skip(f"git: {listed.stderr.decode().partition(chr(10))[0]}")
    for name in os.fsdecode(listed.stdout).split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith("tests/fixtures/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    os.chdir(folder)
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "all")
    return folder


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def test_release_builds_without_git_into_the_same_bits():
    start = pathlib.Path.cwd()
    first = repository(common.new_folder())
    version = make("print-VERSION").split()[-1]
    assert re.fullmatch(r"[0-9a-f]{12}", version), version
    release = first / make("dist").strip()
    assert release.name == f"autolora-{version}.tar.gz", release
    before = digest(release)
    release.unlink()
    for path in ("Makefile", "build/dist"):
        os.utime(path, (1, 1))
    make("dist")
    assert digest(release) == before, "another release of the same commit"

    second = start / "a folder with spaces"
    second.mkdir()
    subprocess.run(["tar", "xzf", str(release), "--strip-components=1", "-C", str(second)], check=True)
    assert not (second / ".git").exists()
    kept = {path.relative_to(second).as_posix() for path in second.rglob("*") if path.is_file()}
    assert kept == {*git("ls-files").split("\n"), "VERSION"} - {""}
    for folder in (first, second):
        make("-j2", "OPT=-O0", *([] if IS_WHOLE else PART), folder=folder)
        built = (folder / BUILT).read_bytes()
        assert os.fsencode(folder) not in built and version.encode() in built
    assert digest(first / BUILT) == digest(second / BUILT), "the program depends on the folder, or on git"
    if IS_WHOLE:
        assert common.start(["--version"], program=str(second / BUILT)).out == f"autolora {version}\n"

    (first / "README.md").write_text("changed")
    ran = subprocess.run(["make", "dist"], capture_output=True, text=True)
    assert ran.returncode != 0 and "commit first" in ran.stderr, ran
    assert make("print-VERSION").strip().endswith(f"{version}-dirty")


def installed(prefix, root):
    """Installs the program that is there, without building anything."""
    ran = subprocess.run(["sh", "jobs/setup/install.sh", "install", common.PROGRAM], cwd=ROOT, capture_output=True,
                         text=True, env={**os.environ, "PREFIX": prefix, "DESTDIR": str(root)})
    assert ran.returncode == 0 and not ran.stderr, ran


def test_make_installs():
    """What make calls; the rest is tested without building."""
    shown = make("-n", "install", "PREFIX=/opt/a", "DESTDIR=/tmp/b", "-o", "all", folder=ROOT)
    assert "PREFIX='/opt/a' DESTDIR='/tmp/b' sh jobs/setup/install.sh install 'bin/autolora'" in shown, shown


def test_staged_files():
    root = common.new_folder() / "a root"
    installed("/opt/autolora", root)
    top = root / "opt" / "autolora"
    assert {path.relative_to(root).as_posix() for path in root.glob("*/*/*")} == {
        "opt/autolora/bin", "opt/autolora/share"}
    assert common.start(["--version"], program=str(top / "bin" / "autolora")).code == 0
    share = top / "share" / "autolora"
    for name in ("inputs/demo.json", "inputs/demo/train.tsv", "jobs/slurm/run.sh", "jobs/setup/base-model.sh",
                 "analysis/__main__.py", "README.md", "LICENSE", "../man/man1/autolora.1"):
        assert (share / name).is_file(), name
    assert not (share / "inputs" / "models").exists() and not list(share.rglob("__pycache__"))
    for path in [*share.rglob("*"), *top.glob("bin/*")]:
        mode = path.stat().st_mode & 0o777
        assert mode in (0o644, 0o755), (path, oct(mode))
        if path.is_file():
            assert os.fsencode(root) not in path.read_bytes(), f"{path} names the scratch root"
    ran = subprocess.run(["sh", "jobs/setup/install.sh", "uninstall"], cwd=ROOT, capture_output=True, text=True,
                         env={**os.environ, "PREFIX": "/opt/autolora", "DESTDIR": str(root)})
    assert ran.returncode == 0 and not [path for path in root.rglob("*") if path.is_file()], ran


def test_bad_prefixes():
    for prefix in ("", "relative", "/with space", "/with'quote", "/with#"):
        ran = subprocess.run(["sh", "jobs/setup/install.sh", "install", common.PROGRAM], cwd=ROOT, capture_output=True,
                             text=True, env={**os.environ, "PREFIX": prefix, "DESTDIR": str(common.new_folder())})
        assert ran.returncode == 2 and "PREFIX" in ran.stderr, ran


def test_installed_scripts_run_in_any_folder():
    """Slurm copies a script elsewhere before it starts it."""
    prefix = str(common.new_folder().resolve() / "prefix")
    installed(prefix, "")
    job = Job()
    expected = job.results(output="expected")
    folder = common.new_folder()
    os.chdir(folder)
    pathlib.Path("outputs").mkdir()
    share = pathlib.Path(prefix, "share", "autolora")
    environment = {**os.environ, "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    for name, script, more in (("slurm", "slurm/run.sh", {"SLURM_NTASKS": "2"}),
                               ("pbs", "pbs/run.sh", {"PBS_O_WORKDIR": str(folder), "AUTOLORA_RANKS": "2"})):
        job.output = pathlib.Path("outputs", name)
        shutil.copy(job.write(), f"{name}.json")
        spooled = shutil.copy(share / "jobs" / script, folder / f"spooled-{name}")
        ran = subprocess.run(["bash", spooled, f"{name}.json"], capture_output=True, text=True,
                             env={**environment, "INPUT": f"{name}.json", **more})
        assert ran.returncode == 0, ran
        found = Results(job.output, None)
        assert_same(found, expected, name)
        assert found.result["provenance"]["mpi_ranks"] == 2
    pathlib.Path("s.json").write_text('{"name": "s", "base": "slurm.json", "grid": {"adapter.rank": [1, 2]}}')
    ran = subprocess.run([share / "jobs" / "sweep", "submit", "s.json"], capture_output=True, text=True)
    assert ran.returncode == 0, (ran, texts("outputs/sweeps/s/points/*/output.txt"))
    assert pathlib.Path("outputs/sweeps/s/points/0001/result.json").exists()
    for scheduler in ("slurm", "pbs"):
        ran = subprocess.run([share / "jobs" / "sweep", "resubmit", "outputs/sweeps/s", "--failed", "--scheduler",
                              scheduler], capture_output=True, text=True)
        assert "nothing to submit" in ran.stdout, ran
        source = (share / "jobs" / scheduler / "array.sh").read_text()
        assert f"{share}/jobs/launch.sh" in source and '"jobs/' not in source + (share / "jobs" / "sweep").read_text()


def test_manual_page():
    """It names all that the program's own summary names."""
    page = (ROOT / "src" / "autolora.1").read_text()
    plain = re.sub(r"\\f[A-Z]|\\", "", page)
    outcome = common.start(["help"])
    listed = re.findall(r"^  (\w+)", outcome.out, re.MULTILINE)
    assert "run" in listed and len(listed) > 6, outcome
    for name in listed:
        assert re.search(rf"^\.(B|BI|BR) {name}\b", plain, re.MULTILINE), f"no subcommand {name} in src/autolora.1"
    codes = re.findall(r"\b(\d+) \w+", outcome.out.partition("Exit codes:")[2])
    assert codes == re.findall(r"^\.B (\d+)$", page, re.MULTILINE), codes
    if shutil.which("groff"):
        ran = subprocess.run(["groff", "-man", "-Tascii", "-ww", str(ROOT / "src" / "autolora.1")], capture_output=True,
                             text=True)
        assert ran.returncode == 0 and not ran.stderr, ran
