"""Whether the fast arithmetic trains like plain float32: the same steps in both, several seeds, curves and their gap.

Takes a store and its tokenizer, runs `spacy electra pretrain` once for each precision and seed, and draws the losses.
Needs the extra `report`.
Example: python benchmarks/parity.py corpus/ewt/pretrain corpus/ewt/tokenizer training/parity --plot docs/parity.svg
"""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import typer

CONFIG = Path(__file__).parents[1] / "configs" / "pretrain-tiny.cfg"
HALVES = ("generator", "discriminator")
COLOURS = {"fp32": "tab:orange", "bf16": "tab:blue", "fp16": "tab:green"}


def main(
    store: Path = typer.Argument(..., help="What `tokenize` made"),
    tokenizer: Path = typer.Argument(..., help="Its tokenizer"),
    output: Path = typer.Argument(..., help="Folder of the runs; finished ones are not run again"),
    precisions: str = typer.Option("fp32,bf16", help="Precisions to compare, the plain one first"),
    seeds: int = typer.Option(3, min=2, help="Runs of each"),
    steps: int = typer.Option(500, min=10, help="Steps of each run"),
    every: int = typer.Option(25, min=1, help="Steps that a point of the curve is the mean of"),
    plot: Path | None = typer.Option(None, help="File for the picture, .svg or .png"),
) -> None:
    """Run, compare, print."""
    names = precisions.split(",")
    curves = {
        name: np.stack(
            [
                read(
                    run(
                        output / f"{name}-{seed}-{steps}-{every}",
                        store,
                        tokenizer,
                        precision=name,
                        seed=seed,
                        steps=steps,
                        every=every,
                    )
                )
                for seed in range(seeds)
            ]
        )
        for name in names
    }  # each (seeds, points, halves)
    for name in names[1:]:
        report(curves[names[0]], curves[name], names=(names[0], name))
    if plot is not None:
        draw(curves, every=every, path=plot)


def run(folder: Path, store: Path, tokenizer: Path, *, precision: str, seed: int, steps: int, every: int) -> Path:
    """A run's records."""
    settings = {
        "paths.train": store,
        "paths.tokenizer": tokenizer,
        "system.seed": seed,
        "model.precision": precision,
        "training.max_steps": steps,
        "training.max_minutes": 0,
        "training.eval_frequency": every,
        "training.dev_rows": 8,
        "training.logger.console_output": "false",
    }
    overrides = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    command = [sys.executable, "-m", "spacy", "electra", "pretrain", str(CONFIG), "--output", str(folder), "--resume"]
    subprocess.run([*command, *overrides], check=True, stdout=subprocess.DEVNULL)
    return folder / "metrics.jsonl"


def read(path: Path) -> np.ndarray:
    """(points, halves) mean training losses."""
    records = [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]
    return np.array([[record["losses"][half] for half in HALVES] for record in records])


def report(plain: np.ndarray, fast: np.ndarray, *, names: tuple[str, str]) -> None:
    """Print the gap between the means of both, and how far seeds are apart, in the last fifth of the steps."""
    last = slice(-max(1, plain.shape[1] // 5), None)
    for number, half in enumerate(HALVES):
        means = [curve[:, last, number].mean(axis=1) for curve in (plain, fast)]  # (seeds,) each
        gap = means[1].mean() - means[0].mean()
        noise = np.sqrt((means[0].var(ddof=1) + means[1].var(ddof=1)) / 2)
        paired = (means[1] - means[0]).tolist()
        print(
            f"{half}: {names[0]} {means[0].mean():.4f}, {names[1]} {means[1].mean():.4f}, gap {gap:+.4f}; "
            f"standard deviation over seeds {noise:.4f}; by seed {', '.join(f'{one:+.4f}' for one in paired)}"
        )


def draw(curves: dict[str, np.ndarray], *, every: int, path: Path) -> None:
    """One panel a half: the mean of each precision, and all its runs in a lighter line."""
    figure, panels = plt.subplots(1, len(HALVES), figsize=(10, 4))
    for number, (panel, half) in enumerate(zip(panels, HALVES, strict=True)):
        for name, curve in curves.items():
            steps = every * (1 + np.arange(curve.shape[1]))
            for one in curve[:, :, number]:
                panel.plot(steps, one, color=COLOURS[name], alpha=0.3, linewidth=0.8)
            panel.plot(steps, curve[:, :, number].mean(axis=0), color=COLOURS[name], label=name)
        panel.set(title=f"training loss of the {half}", xlabel="step")
        panel.legend()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    typer.run(main)
