"""Reading: strides, killed runs, resumed runs, damaged files, long runs."""
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import pytest
from conftest import MODULES, retrain_columns, search_columns, write_trace

from analysis import trace as reading
from analysis.trace import Trace, TraceProblem

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("stride", [1, 2, 7, 31, 32, 50, 300])
@pytest.mark.parametrize("first", [0, 3])
def test_strides_end_at_the_last_row(tmp_path, stride, first):
    search = search_columns(301)
    write_trace(tmp_path / "trace.h5", search=search)
    with Trace(tmp_path) as trace:
        table = trace.tables["search"]
        found = table.read("selection", stride, first)
    expected = search["selection"][first:][::-1][::stride][::-1]
    np.testing.assert_array_equal(found, expected)


def test_number_of_rows_is_bounded(tmp_path, monkeypatch):
    write_trace(tmp_path / "trace.h5", search=search_columns(1000))
    monkeypatch.setattr(reading, "MOST_ROWS", 100)
    with Trace(tmp_path) as trace:
        table = trace.tables["search"]
        assert table.stride("selection") == 10
        assert len(table.read("selection", table.stride("selection"))) == 100
        monkeypatch.setattr(reading, "MOST_VALUES", 6 * 4 * 20)
        assert table.stride("selection") == 50


def test_killed_run_has_the_rows_of_its_shortest_dataset(tmp_path):
    search = search_columns(20)
    search["step"], search["hypergradient"] = search["step"][:17], search["hypergradient"][:15]
    write_trace(tmp_path / "trace.h5", search=search)
    with Trace(tmp_path) as trace:
        assert trace.tables["search"].steps.tolist() == list(range(1, 16))
        np.testing.assert_array_equal(trace.tables["search"].read("logits"), search["logits"][:15])


def test_segments_of_a_resumed_run(tmp_path):
    """The second attempt began at a checkpoint of step 11: rows 11 to 16 of the first one do not count."""
    old, new = search_columns(16, seed=1), search_columns(10, seed=2, first_step=11)
    write_trace(tmp_path / "trace.h5.damaged-1", search=old)
    write_trace(tmp_path / "trace.h5", search=new, retrain=retrain_columns(5))
    expected = np.concatenate([old["logits"][:10], new["logits"]])
    with Trace(tmp_path) as trace:
        table = trace.tables["search"]
        assert table.steps.tolist() == list(range(1, 21))
        np.testing.assert_array_equal(table.read("logits"), expected)
        for stride in (2, 3, 6):
            np.testing.assert_array_equal(table.read("logits", stride), expected[::-1][::stride][::-1])
        assert len(trace.tables["retrain"]) == 5


def test_segment_without_rows_of_a_table(tmp_path):
    write_trace(tmp_path / "trace-1.h5", search=search_columns(8))
    write_trace(tmp_path / "trace-2.h5", search=search_columns(0), retrain=retrain_columns(4))
    write_trace(tmp_path / "trace-10.h5", search=search_columns(0), retrain=retrain_columns(4, first_step=3))
    with Trace(tmp_path) as trace:
        assert [path.filename[-5:] for path in trace.files] == ["-1.h5", "-2.h5", "10.h5"]
        assert len(trace.tables["search"]) == 8
        assert trace.tables["retrain"].steps.tolist() == [1, 2, 3, 4, 5, 6]


def test_damaged_segment_is_named(tmp_path):
    write_trace(tmp_path / "trace.h5", search=search_columns(8, first_step=5))
    (tmp_path / "trace.h5.damaged-1").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with Trace(tmp_path) as trace:
        assert "damaged-1" in trace.unreadable[0]
        assert len(trace.tables["search"]) == 8


def break_modules(file):
    del file["modules"]


def break_column(file):
    del file["search/ranks"]


def break_shape(file):
    del file["search/logits"]
    file["search/logits"] = np.zeros((8, 5, 4), np.float32)


def break_type(file):
    del file["search/ranks"]
    file["search/ranks"] = np.full((8, 6), b"x")


def break_scalar(file):
    del file["search/step"]
    file["search/step"] = 3


@pytest.mark.parametrize("damage, word", [
    (break_modules, "modules"), (break_column, "ranks"), (break_shape, "/search/logits"), (break_type, "/search/ranks"),
    (break_scalar, "/search/step")])
def test_inconsistent_files_are_refused(tmp_path, damage, word):
    path = write_trace(tmp_path / "trace.h5", search=search_columns(8))
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(TraceProblem) as problem:
        Trace(tmp_path)
    assert word in str(problem.value) and str(tmp_path) in str(problem.value)


@pytest.mark.parametrize("content", [b"", b"not HDF5", None])
def test_no_trace(tmp_path, content):
    if content is not None:
        (tmp_path / "trace.h5").write_bytes(content)
    with pytest.raises(TraceProblem, match="trace.h5"):
        Trace(tmp_path)


def test_means_leave_out_what_is_not_a_number(tmp_path):
    search = search_columns(10)
    search["loss_validation"] = np.array([1, np.nan, 3, 4, np.nan, np.nan, 7, 8, 9, np.nan])
    write_trace(tmp_path / "trace.h5", search=search)
    with Trace(tmp_path) as trace:
        steps, means = trace.tables["search"].means("loss_validation", bins=5)
    assert steps.tolist() == [2, 4, 8, 10]
    assert means.tolist() == [1, 3.5, 7.5, 9]


def write_long_trace(path, rows, modules=6, k=4):
    """In blocks; each block of 25,600 rows is the same walk."""
    block = search_columns(25600, modules, k)
    write_trace(path, search={name: values[:0] for name, values in block.items()})
    with h5py.File(path, "r+") as file:
        for name, values in block.items():
            dataset = file[f"search/{name}"]
            dataset.resize(rows, axis=0)
            for start in range(0, rows, len(values)):
                count = min(len(values), rows - start)
                dataset[start:start + count] = values[:count] + (start if name == "step" else 0)


def test_report_of_a_million_rows_in_bounded_memory(tmp_path):
    write_long_trace(tmp_path / "trace.h5", 10**6)
    program = ("import resource, sys; from analysis.commands import main; code = main(sys.argv[1:]); "
               "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", program, "report", str(tmp_path)], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1 << 20  # KiB
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Every 245th iteration is shown" in page and MODULES[0] in page
