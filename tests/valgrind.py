"""make check-valgrind: small runs on 2 ranks under valgrind's memcheck, which also sees what libraries read and write.
AUTOLORA_BIN is a program compiled for x86-64-v3, since valgrind knows no AVX-512."""
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "runs"))
import common  # noqa: E402

VALGRIND = ["valgrind", "-q", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite",
            "--errors-for-leak-kinds=definite", "--num-callers=60", f"--suppressions={HERE / 'valgrind.supp'}"]
KEYS = {"search.steps": 2, "retrain.steps": 2, "task.max_length": 8, "adapter.rank": 2, "adapter.dropout": 0.1,
        "optimizer.batch_size": 4, "task.limit_train": 12, "task.limit_dev": 4, "output.checkpoint_every": 1,
        "output.stall_seconds": 0, "parallel.microbatch_tokens": 16}
CASES = {
    "search on two stages": ("cola", {}),
    "search on two replicas": ("cola", {"parallel.replicas": 2, "search.hypergradient": "finite_difference"}),
    "search on a grid": ("ner", {"parallel.grid": [1, 2]}),
    "generation": ("e2e", {"adapter.method": "lora", "task.max_new_tokens": 3}),
    "all weights": ("stsb", {"adapter.method": "full"}),
}
TIMEOUT = 600


def check(task, keys):
    """What is wrong, or ""."""
    job = common.Job(task, keys={**KEYS, **keys})
    for resumes in (False, True):  # the second one reads what the first one left
        if resumes:
            for name in ("result.json", "checkpoint-final.h5"):
                (job.output / name).unlink()
            max(job.output.glob("checkpoint-0*.h5")).unlink()
        launcher = [*common.MPIRUN, "-n", "2", *VALGRIND]
        outcome = common.start(["run", job.write(), *(["--resume"] if resumes else [])], prefix=launcher, timeout=TIMEOUT)
        if outcome.code != 0:
            return str(outcome)
    return ""


def main():
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1")
    supplied = pathlib.Path("/usr/share/openmpi/openmpi-valgrind.supp")
    if supplied.exists():
        VALGRIND.append(f"--suppressions={supplied}")
    failed = 0
    for name, (task, keys) in CASES.items():
        start = time.monotonic()
        wrong = check(task, keys)
        failed += wrong != ""
        print(f"{'FAIL' if wrong else 'pass'} {time.monotonic() - start:6.1f} s  {name}\n{wrong}".rstrip(), flush=True)
    print(f"{len(CASES) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
