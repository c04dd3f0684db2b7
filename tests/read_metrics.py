"""Reads back what tools/export_metrics wrote: FORMAT TABLE.json RECORDS.csv (of trial 2)."""
import csv
import json
import sys
from pathlib import Path


def read_tensorboard():
    """({metric: [(step, value)]} of trial 2, number of runs)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    runs = sorted(Path("tensorboard").iterdir())
    events = EventAccumulator(str(next(run for run in runs if run.name.endswith("-2"))))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)]
            for tag in events.Tags()["scalars"]}, len(runs)


def read_mlflow():
    import mlflow
    client = mlflow.MlflowClient("sqlite:///mlflow/mlflow.db")
    experiments = [entry.experiment_id for entry in client.search_experiments()]
    runs = client.search_runs(experiments)
    run = next(run for run in runs if run.info.run_name.endswith("-2"))
    return {key: [(point.step, point.value)
                  for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics}, len(runs)


def check_wandb(table):
    """The library has no reader of its own offline files: texts and numbers stand in them as
    JSON."""
    files = {path.parent.name.rpartition("-")[2]: path.read_bytes()
             for path in Path("wandb").rglob("*.wandb")}
    assert files.keys() == {trial["id"] for trial in table["trials"]}, files.keys()
    for trial in table["trials"]:
        for text in ("train/loss", "dev/score", json.dumps(trial["test_score"])):
            assert text.encode() in files[trial["id"]], f"{text} of trial {trial['trial']}"
    print(f"wandb: {len(files)} runs")


def close(found, wanted):
    return abs(found - wanted) <= 1e-6 * abs(wanted)  # TensorBoard keeps fp32


def main():
    name, table, records = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), sys.argv[3]
    if name == "wandb":
        check_wandb(table)
        return
    metrics, runs = {"tensorboard": read_tensorboard, "mlflow": read_mlflow}[name]()
    assert runs == len(table["trials"]), f"{runs} runs"
    losses = {}
    with open(records, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            losses.setdefault(int(row["step"]), []).append(
                (float(row["loss_plus"]) + float(row["loss_minus"])) / 2)
    found = dict(metrics["train/loss"])
    assert found.keys() == losses.keys(), f"steps {sorted(found)}"
    for step, values in losses.items():
        assert close(found[step], sum(values) / len(values)), f"loss of step {step}"
    assert [step for step, _ in metrics["dev/score"]] == [0, 3, 6], metrics["dev/score"]
    wanted = table["trials"][1]["test_score"]
    assert close(metrics["result/test_score"][-1][1], wanted), metrics["result/test_score"]
    print(f"{name}: {len(metrics)} metrics of {runs} runs")


if __name__ == "__main__":
    main()
