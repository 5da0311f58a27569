"""A project's folder as a user has it: the repository's jobs/ in it, unchanged, and tiny models and data."""
import os
import pathlib
import shutil
import subprocess

from common import PROGRAM, ROOT, Job, Results, assert_same, new_folder


class Project:
    """A project's folder as a user has it, in which this process goes on; jobs/ is the repository's."""

    def __init__(self, keys=None):
        self.job = Job(keys={"retrain.steps": 8, **(keys or {})})
        self.folder = new_folder()
        shutil.copytree(ROOT / "jobs", self.folder / "jobs", ignore=shutil.ignore_patterns("local.sh"))
        (self.folder / "bin").mkdir()
        (self.folder / "bin" / "autolora").symlink_to(PROGRAM)
        for name in ("inputs", "outputs"):
            (self.folder / name).mkdir()
        os.chdir(self.folder)
        # What this machine needs; PBS gives a job none of the user's variables.
        variables = [f"export {name}='{value}'\n" for name, value in os.environ.items()
                     if name.startswith(("OMPI_", "OMP_WAIT", "SLURM_CONF"))]
        self.local = pathlib.Path("jobs/env/local.sh")
        self.local.write_text("".join(variables))

    def input(self, name):
        """An input file whose run goes to outputs/NAME."""
        self.job.output = pathlib.Path("outputs") / name
        return shutil.copy(self.job.write(), f"inputs/{name}.json")

    def assert_result(self, name, expected, num_ranks=None):
        found = Results(pathlib.Path("outputs") / name, None)
        assert_same(found, expected, name)
        if num_ranks is not None:
            assert found.result["provenance"]["mpi_ranks"] == num_ranks, found.result["provenance"]

    def reference(self):
        return self.job.results(1, output="reference")


def sweep(*arguments, code=0, **how):
    """What jobs/sweep prints."""
    ran = subprocess.run(["jobs/sweep", *arguments], capture_output=True, text=True, **how)
    assert ran.returncode == code, ran
    return ran.stdout + ran.stderr


def texts(pattern):
    """Files of the folder, for messages."""
    return "".join(f"{path}:\n{path.read_text()}" for path in pathlib.Path(".").glob(pattern))
