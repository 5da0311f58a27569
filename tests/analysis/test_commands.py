"""The commands as a user starts them."""
import io
import json
import os
import pathlib
import pty
import subprocess
import sys
import threading
import time

import pytest
from conftest import search_columns, write_result, write_run, write_trace

from analysis import watch
from analysis.commands import main

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
REPORT = {"phase": "search", "step": 8, "num_steps": 376, "seconds": 5.4, "loss_train": 0.69143, "loss_validation": 0.6848,
          "learning_rate": 3e-4, "mean_rank": 7.8333, "mean_entropy": 2.7724, "tokens_per_second": 1294.7,
          "seconds_left": 3725.5}


def command(*arguments, **how):
    return subprocess.run([sys.executable, "-m", "analysis", *map(str, arguments)], cwd=ROOT, text=True,
                          capture_output=True, **how)


def test_report_without_a_display(tmp_path):
    write_run(tmp_path / "a")
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = command("report", tmp_path / "a", env={**environment, "MPLBACKEND": "TkAgg"})
    assert done.returncode == 0, done.stderr
    assert pathlib.Path(done.stdout.strip()) == tmp_path / "a" / "report" / "index.html"
    assert (tmp_path / "a" / "report" / "index.html").stat().st_size > 50000
    assert done.stderr == ""


def test_report_goes_to_the_common_folder(tmp_path, capsys):
    for name in "ab":
        write_result(tmp_path / "runs" / name)
    assert main(["report", str(tmp_path / "runs" / "a"), str(tmp_path / "runs" / "b")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "runs" / "report" / "index.html")


@pytest.mark.parametrize("arguments, code, word", [
    (["report", "nowhere"], 2, "nowhere: no such folder"), (["table", "."], 2, "neither a run"),
    (["compare", "a"], 2, "two runs"), (["watch", "nowhere"], 2, "nowhere"), (["table", "b"], 2, "result.json"),
    (["watch", "b", "--once"], 2, "progress.jsonl")])
def test_mistakes(tmp_path, monkeypatch, capsys, arguments, code, word):
    write_run(tmp_path / "deeper" / "a")
    write_trace(tmp_path / "deeper" / "b" / "trace.h5", search=search_columns(3))
    (tmp_path / "deeper" / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "deeper" / ("empty" if arguments[1] == "." else ""))
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("analysis: ") and word in error and len(error.splitlines()) == 1


def test_table_and_compare(tmp_path, capsys):
    write_run(tmp_path / "a", score=0.25)
    write_run(tmp_path / "b", score=0.75, seed=2)
    assert main(["table", str(tmp_path), "--markdown"]) == 0
    assert "| 0.500 ± 0.354 |" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "0 query" in capsys.readouterr().out


def test_methods_beside_each_other(tmp_path, capsys):
    for i, (task, method, score) in enumerate([("cola", "lora", 0.25), ("cola", "lora", 0.75), ("cola", "autolora", 0.5),
                                               ("mrpc", "autolora", 0.8)]):
        write_run(tmp_path / str(i), score=score, seed=i, keys={"task.name": task, "adapter.method": method}, method=method)
    assert main(["table", str(tmp_path), "--methods"]) == 0
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["task, score", "seeds", "lora", "autolora"], lines
    assert lines[2][1:] == ["1 to 2", "0.500 ± 0.354", "0.500"] and lines[2][0].startswith("cola, "), lines
    assert lines[3][0].startswith("mrpc, ") and lines[3][-1] == "0.800", lines
    assert lines[4][0] == "trainable parameters", lines


def test_broken_pipe(tmp_path):
    write_run(tmp_path / "a")
    done = subprocess.run(f"{sys.executable} -m analysis table {tmp_path / 'a'} | true", shell=True, cwd=ROOT,
                          capture_output=True, text=True)
    assert "Traceback" not in done.stderr


# ---- watch ----


def test_a_report_in_one_line():
    assert watch.line_of(REPORT) == ("search step 8/376  train 0.6914  validation 0.6848  mean rank 7.83  entropy 2.772  "
                                     "1295 tokens/s  left 1:02:05")
    assert watch.line_of({"phase": "retrain", "step": 1, "num_steps": 2, "f1": 0.5}) == "retrain step 1/2  f1 0.5000"


def test_sparkline():
    assert watch.sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert watch.sparkline([5, 5]) == "▁▁" and watch.sparkline([]) == ""
    assert watch.sparkline(range(600), 4) == "▁▃▆█"


def test_reports_are_read_on(tmp_path):
    path = tmp_path / "progress.jsonl"
    reports = watch.Reports(path)
    assert reports.new() == []
    path.write_text('{"step": 1}\n{"st')
    assert reports.new() == [{"step": 1}]
    with open(path, "a") as file:
        file.write('ep": 2}\nnot JSON\n[3]\n{"step": 3}\n')
    assert reports.new() == [{"step": 2}, {"step": 3}]
    path.write_text('{"step": 9}\n')  # another job in the same folder
    assert reports.new() == [{"step": 9}]


def test_watch_off_a_terminal(tmp_path):
    """Follows from the first report to the result; nothing moves the cursor."""
    folder, out = tmp_path / "a", io.StringIO()
    folder.mkdir()
    progress = folder / "progress.jsonl"
    progress.write_text(json.dumps(REPORT) + "\n")
    thread = threading.Thread(target=watch.watch, args=(folder, 0.02, False, out), daemon=True)
    thread.start()
    time.sleep(0.2)
    assert out.getvalue() == watch.line_of(REPORT) + "\n"
    with open(progress, "a") as file:
        file.write(json.dumps({**REPORT, "step": 9}) + "\n")
    search = write_run(folder)
    thread.join(20)
    assert not thread.is_alive()
    lines = out.getvalue().splitlines()
    assert "step 9/376" in lines[1] and lines[-1] == "done: matthews_correlation 0.5000"
    assert f"mean rank {search['ranks'][-1].mean():.2f}" in lines
    assert "\r" not in out.getvalue() and "\x1b" not in out.getvalue()


def test_watch_on_a_terminal(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "a" / "progress.jsonl").write_text(json.dumps(REPORT) + "\n")
    ours, theirs = pty.openpty()
    with open(theirs, "w") as out:
        assert watch.watch(tmp_path / "a", 0.02, True, out)
    text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert text.startswith(watch.CLEAR) and "step 8/376" in text and "query" in text


def test_watch_in_the_middle_of_a_write(tmp_path):
    (tmp_path / "trace.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    assert watch.trace_lines(tmp_path) == []
