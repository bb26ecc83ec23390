"""The command line: `python -m road_damage train|overfit|evaluate|alarms|curve|export`."""

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path

import cv2
import torch

from road_damage import checkpoint, drawing, evaluate, export, history
from road_damage.config import EVALUATION_SIZE, TrainConfig
from road_damage.dataset import read_samples, read_video
from road_damage.model import RoadDamageDetector
from road_damage.overfit import overfit
from road_damage.splits import apart
from road_damage.trainer import Trainer, stop_on_signals

DEFAULT_DATA = Path("../shared/data/road-damage")
DEFAULT_RUN = Path("models/road-damage/runs/main")
PICTURES = 10


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    main = argparse.ArgumentParser(prog="python -m road_damage", description=__doc__)
    main.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder of the images")
    main.add_argument("--threads", type=int, default=2, help="torch threads")
    commands = main.add_subparsers(required=True)
    train = commands.add_parser("train", help="train, or go on where the run stopped")
    train.add_argument("--run", type=Path, default=DEFAULT_RUN, help="folder of the run")
    train.add_argument("--from", dest="origin", type=Path, help="begin a branch at this checkpoint")
    train.add_argument("--steps", type=int, help="steps of the whole run")
    train.add_argument("--cooldown-steps", type=int, help="last steps, with a falling rate")
    train.add_argument("--seed", type=int, help="of a new run")
    train.set_defaults(command=run_train)
    small = commands.add_parser("overfit", help="prove the pipeline on 32 images")
    small.add_argument("--run", type=Path, default=DEFAULT_RUN.with_name("overfit"))
    small.add_argument("--steps", type=int, default=900)
    small.add_argument("--seed", type=int, default=1)
    small.set_defaults(command=run_overfit)
    judge = commands.add_parser("evaluate", help="metrics on a split, as JSON")
    judge.add_argument("weights", type=Path, help="a checkpoint, or weights in safetensors")
    judge.add_argument("--split", default="valid")
    judge.add_argument(
        "--apart", action="store_true", help="leave out neighbours of training frames"
    )
    judge.add_argument("--size", type=int, default=EVALUATION_SIZE, help="input side in pixels")
    judge.add_argument("--threshold", type=float, help="default: the best one of these images")
    judge.add_argument("--curve", type=Path, help="save the precision-recall curve as a picture")
    judge.add_argument("--pictures", type=Path, help="folder for ten images with detections")
    judge.set_defaults(command=run_evaluate)
    alarms = commands.add_parser("alarms", help="false alarms on a video without damage")
    alarms.add_argument("weights", type=Path)
    alarms.add_argument("video", type=Path)
    alarms.add_argument("--threshold", type=float, required=True, help="chosen on valid")
    alarms.add_argument("--size", type=int, default=EVALUATION_SIZE, help="input side in pixels")
    alarms.add_argument("--every", type=int, default=10, help="take each n-th frame")
    alarms.set_defaults(command=run_alarms)
    curve = commands.add_parser("curve", help="draw a run's training curve")
    curve.add_argument("output", type=Path, help="picture to write")
    curve.add_argument("--run", type=Path, default=DEFAULT_RUN, help="folder of the run")
    curve.set_defaults(command=run_curve)
    out = commands.add_parser("export", help="write ONNX, TorchScript and safetensors, checked")
    out.add_argument("weights", type=Path, help="a checkpoint, or weights in safetensors")
    out.add_argument("output", type=Path, help="folder")
    out.add_argument("--threshold", type=float, required=True, help="chosen on valid")
    out.add_argument("--size", type=int, required=True, help="input side it was chosen at")
    out.set_defaults(command=run_export)
    return main


def load_weights(path: Path) -> RoadDamageDetector:
    """The averaged weights of a checkpoint, of a run's best.pt, or of a safetensors file."""
    model = RoadDamageDetector()
    if path.suffix == ".safetensors":
        state = export.read_safetensors(path)
    else:
        state = torch.load(path, weights_only=True, map_location="cpu")
        state = state.get("average", state)
    model.load_state_dict(state)
    return model.eval()


def training_config(options: argparse.Namespace, start: Path | None) -> TrainConfig:
    """The settings of the checkpoint, or the defaults, with what the command line changes."""
    config = TrainConfig.from_dict(checkpoint.load(start).config) if start else TrainConfig()
    names = ("steps", "cooldown_steps") if start else ("steps", "cooldown_steps", "seed")
    given = {name: getattr(options, name) for name in names}
    return dataclasses.replace(config, **{k: v for k, v in given.items() if v is not None})


def branch_off(origin: Path, run: Path) -> None:
    """Begin a run with another run's checkpoint and its history so far."""
    run.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(origin, run / checkpoint.FILE_NAME)
    told = origin.with_name(history.FILE_NAME)
    if told.exists():
        shutil.copyfile(told, run / history.FILE_NAME)


def run_train(options: argparse.Namespace) -> int:
    """Train; exit code 0 also when a signal ended the run early, since it can be resumed."""
    own = options.run / checkpoint.FILE_NAME
    if options.origin is not None and not own.exists():
        branch_off(options.origin, options.run)
    start = own if own.exists() else None
    config = training_config(options, start)
    samples = read_samples(options.data, "train")
    valid = apart(read_samples(options.data, "valid"), samples)
    trainer = Trainer(config, samples, options.run)
    if start:
        trainer.restore(start)
    log = history.log_to(options.run, trainer.step)
    with stop_on_signals(trainer):
        done = trainer.train(valid, log)
    say("done" if done else f"stopped at step {trainer.step}; the same command goes on")
    return 0


def run_overfit(options: argparse.Namespace) -> int:
    """Exit code 0 only if every damage was found."""
    samples = read_samples(options.data, "train")
    log = history.log_to(options.run, -1)
    reached = overfit(samples, options.run, steps=options.steps, seed=options.seed, log=log)
    return 0 if reached else 1


def run_evaluate(options: argparse.Namespace) -> int:
    """Print the report."""
    model = load_weights(options.weights)
    samples = read_samples(options.data, options.split)
    if options.apart:
        samples = apart(samples, read_samples(options.data, "train"))
    resized, found = evaluate.run(model, samples, options.size)
    report = evaluate.report(resized, found, options.size, options.threshold)
    say(json.dumps(report.as_dict(), indent=2))
    if options.curve is not None:
        drawing.precision_recall(resized, found, options.curve)
    if options.pictures is not None:
        drawing.examples(resized, found, report.threshold, options.pictures, PICTURES)
    return 0


def run_alarms(options: argparse.Namespace) -> int:
    """Print how many detections a video without damage has."""
    samples = read_video(options.video, every=options.every)
    _, found = evaluate.run(load_weights(options.weights), samples, options.size)
    counts = [int((frame.scores >= options.threshold).sum()) for frame in found]
    answer = {"frames": len(counts), "frames_with_alarms": sum(map(bool, counts))}
    say(json.dumps({**answer, "alarms_per_frame": sum(counts) / len(counts)}))
    return 0


def run_curve(options: argparse.Namespace) -> int:
    """Write the picture."""
    drawing.history(options.run / history.FILE_NAME, options.output)
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write the files and print the largest differences between ONNX and torch."""
    differences = export.export(
        load_weights(options.weights),
        options.output,
        threshold=options.threshold,
        size=options.size,
    )
    say(json.dumps(differences, indent=2))
    return 0


def say(text: str) -> None:
    """The command's answer, on standard output."""
    sys.stdout.write(f"{text}\n")


def main() -> int:
    """Run one command."""
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    code: int = options.command(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
