#!/usr/bin/env python3
"""What it costs to schedule a trial that does nothing: qzo beside Optuna and Ray Tune.

    tools/bench_scheduling.py [--trials 10000] [SYSTEM...]

A table of wall and processor milliseconds per trial, of the same machine and sitting. qzo runs a
sweep whose trials end at once, since their model cannot be read: listing, dispatch, decisions, one
journal and one result each, all on disk. Optuna asks and tells one float per trial; Ray Tune runs
a function that returns at once. What is not installed is left out (pip install optuna "ray[tune]").
"""
import argparse
import ctypes
import importlib.metadata
import importlib.util
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PR_SET_CHILD_SUBREAPER = 36
REAP_SECONDS = 60  # for daemons that outlive the program which started them


def run_qzo(trials, folder, qzo):
    fixtures = ROOT / "tests" / "fixtures"
    (folder / "many.yaml").write_text(
        f"task: {fixtures}/tiny-task.qzt\n"
        "train: { steps: 1, batch: 1, evaluate_every: 0 }\n"
        f"repeats: {trials - 1}\n"
        "grids:\n"
        "  - parameters: { model: { values: [nowhere] } }\n"
        # One trial that runs, once: a sweep in which nothing can be read is refused.
        f"  - trials: [{{ model: {fixtures}/tiny-llama, clip: 3 }}]\n"
        "    exclude: seed > 0\n", encoding="utf-8")
    out = str(folder / "out")
    begin = time.perf_counter()
    done = subprocess.run([qzo, "run", str(folder / "many.yaml"), "--out", out, "--threads", "1",
                           "--log-level", "error"], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode != 1:  # some trial failed
        sys.exit(f"qzo left with {done.returncode}: {done.stderr[-500:]}")
    rows = subprocess.run([qzo, "report", out, "--csv"], capture_output=True, text=True,
                          check=True).stdout.splitlines()[1:]
    count = sum(",failed," in row for row in rows) + sum(",finished," in row for row in rows)
    if count != trials:
        sys.exit(f"qzo ended {count} of {trials} trials")
    return seconds


def run_optuna(trials, storage):
    import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))
    begin = time.perf_counter()
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("learning_rate", 0.0, 1.0))
    return time.perf_counter() - begin


def optuna_journal(folder):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    return JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def run_ray(trials, folder):
    import ray
    from ray import tune
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False,
             logging_level="error")

    def nothing(config):
        return {"score": config["learning_rate"]}

    tuner = tune.Tuner(
        nothing, param_space={"learning_rate": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0))
    begin = time.perf_counter()
    ended = sum(1 for result in tuner.fit() if result.error is None)
    seconds = time.perf_counter() - begin
    ray.shutdown()
    if ended != trials:
        sys.exit(f"Ray Tune ended {ended} of {trials} trials")
    return seconds


# name: (what it is, module, function of (trials, folder, qzo))
SYSTEMS = {
    "qzo": ("qzo run, one rank, on disk", None, run_qzo),
    "optuna-memory": ("ask, suggest_float, tell; in memory", "optuna",
                      lambda trials, folder, qzo: run_optuna(trials, None)),
    "optuna-journal": ("the same, JournalFileBackend", "optuna",
                       lambda trials, folder, qzo: run_optuna(trials, optuna_journal(folder))),
    "optuna-sqlite": ("the same, SQLite", "optuna", lambda trials, folder, qzo: run_optuna(
        trials, f"sqlite:///{folder}/study.db")),
    "ray": ("tune.Tuner, actors kept", "ray",
            lambda trials, folder, qzo: run_ray(trials, folder)),
}


def reap():
    """Waits for every descendant, so that its processor time is counted."""
    deadline = time.monotonic() + REAP_SECONDS
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.1)
        except ChildProcessError:
            return


def measure(name, given):
    """(wall seconds of the trials, processor seconds of all processes) in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, __file__, "--one", name, "--trials", str(given.trials),
                           "--qzo", given.qzo], stdout=subprocess.PIPE, text=True, check=False)
    reap()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{name} failed")
    return float(done.stdout.split()[-1]), (after.ru_utime + after.ru_stime - before.ru_utime
                                            - before.ru_stime)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("systems", nargs="*", metavar="SYSTEM",
                        help=f"of {', '.join(SYSTEMS)}; default: all")
    parser.add_argument("--trials", type=int, default=10000)
    parser.add_argument("--qzo", default=str(ROOT / "build" / "qzo"), help="the program")
    parser.add_argument("--one", choices=SYSTEMS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.trials < 2:
        parser.error(f"--trials: expected at least 2, found {given.trials}")
    if given.one:
        with tempfile.TemporaryDirectory() as folder:
            print(SYSTEMS[given.one][2](given.trials, Path(folder), given.qzo))
        return
    unknown = set(given.systems) - set(SYSTEMS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SYSTEMS)}")
    # Daemons whose parent has ended become children of this process.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    print("| system | what | trials | ms per trial | ms of processors per trial |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for name in given.systems or SYSTEMS:
        what, module, _ = SYSTEMS[name]
        if module and importlib.util.find_spec(module) is None:
            print(f"{name}: no module {module}", file=sys.stderr)
            continue
        wall, processors = measure(name, given)
        version = f" {importlib.metadata.version(module)}" if module else ""
        print(f"| {name}{version} | {what} | {given.trials} | {1e3 * wall / given.trials:.3g} | "
              f"{1e3 * processors / given.trials:.3g} |", flush=True)


if __name__ == "__main__":
    main()
