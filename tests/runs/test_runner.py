"""The runner itself: what fails, what hangs and what is skipped is counted as such."""
import pathlib
import subprocess
import sys
import time

from common import ROOT, new_folder

HEAD = f"import sys\nsys.path.insert(0, {str(ROOT / 'tests' / 'runs')!r})\nimport common\n"


def run(body, *options):
    folder = new_folder()
    (folder / "test_sample.py").write_text(HEAD + body)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "run.py"), "--runs", str(folder), "-k", "runs/test_sample",
         *options], capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout.splitlines()


def is_alive(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def test_counts():
    code, lines = run("""
def test_good(): pass
def test_bad():
    print("\\n".join(f"line {i}" for i in range(200)))
    assert 1 == 2
def test_absent(): raise common.Skip("no such thing")
@common.cases(one=1, two=2)
def test_case(value): assert value == 1
""")
    assert code == 1 and lines[-1] == "2 passed, 2 failed, 1 skipped", lines
    assert any("test_absent: no such thing" in line for line in lines)
    assert any("FAIL" in line and "test_case[two]" in line for line in lines)
    assert any("assert 1 == 2" in line for line in lines), lines
    assert "line 150" not in " ".join(lines[:5]) and "line 10" not in lines, "the last 60 lines"


def test_hanging_processes_are_ended():
    body = """
import subprocess, os
def test_hang():
    child = subprocess.Popen(["sleep", "1000"], preexec_fn=os.setpgrp)
    print("child", child.pid, flush=True)
    child.wait()
def test_left():
    print("child", subprocess.Popen(["sleep", "1000"], preexec_fn=os.setpgrp,
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid)
"""
    start = time.monotonic()
    code, lines = run(body, "--timeout", "1")
    assert time.monotonic() - start < 60
    assert code == 1 and lines[-1] == "0 passed, 2 failed, 0 skipped", lines
    children = [int(line.split()[1]) for line in lines if line.startswith("child ")]
    assert len(children) == 2, lines
    assert not any(is_alive(child) for child in children)


def test_failures_run_again():
    body = """
import pathlib
def test_moment():
    marker = pathlib.Path(%r)
    if not marker.exists():
        marker.touch()
        raise AssertionError("a bad moment")
def test_bad(): assert False
"""
    def marked():
        return body % str(new_folder() / "marker")
    code, lines = run(marked(), "--again", "2")
    assert code == 1 and lines[-1] == "1 passed, 1 failed, 0 skipped", lines
    assert any("test_moment: passed when it was run again" in line for line in lines), lines
    assert any("a bad moment" in line for line in lines), "the first output"
    code, lines = run(marked(), "--again", "1")
    assert code == 1 and lines[-1] == "0 passed, 2 failed, 0 skipped", "more than one failed"
    code, lines = run(marked().replace("assert False", "pass"), "--again", "1")
    assert code == 0 and lines[-1] == "2 passed, 0 failed, 0 skipped", lines


def test_nothing_to_run_is_a_failure():
    code, lines = run("def test_absent(): raise common.Skip('never')")
    assert code == 1 and lines[-1] == "0 passed, 0 failed, 1 skipped", lines
    code, lines = run("import nowhere")
    assert code == 1 and lines[-1] == "0 passed, 1 failed, 0 skipped", lines
