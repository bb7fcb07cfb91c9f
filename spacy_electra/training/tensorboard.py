"""`spacy-electra.TensorBoardLogger.v1`: a spaCy logger that writes event files for TensorBoard, for any training."""

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

LogStep = Callable[[dict[str, Any] | None], None]


def create_tensorboard_logger(
    log_dir: str,
) -> Callable[[Any, IO[str], IO[str]], tuple[LogStep, Callable[[], None]]]:
    """Write losses, scores and rates of every evaluation into the folder `log_dir`.

    A resumed run hides the records of later steps. `spacy.ChainLogger.v1` combines this with spaCy's console logger.
    Raises ImportError when training begins if TensorBoard is not installed.
    """

    def setup(
        nlp: Any, stdout: IO[str] = sys.stdout, stderr: IO[str] = sys.stderr
    ) -> tuple[LogStep, Callable[[], None]]:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise ImportError(
                f"training.logger writes for TensorBoard, which cannot be imported ({error}): pip install tensorboard"
            ) from error
        writer: SummaryWriter | None = None

        def log_step(info: dict[str, Any] | None) -> None:
            nonlocal writer
            if info is None:
                return
            step = info["step"]
            if writer is None:
                writer = SummaryWriter(log_dir, purge_step=step)
            for name, number in scalars(info):
                writer.add_scalar(name, number, global_step=step)
            writer.flush()

        def finalize() -> None:
            if writer is not None:
                writer.close()

        return log_step, finalize

    return setup


def scalars(info: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value of each curve in the info of a spaCy logger; names of nested scores are joined by slashes."""
    yield "score", info["score"]
    yield "epoch", info["epoch"]
    if info.get("learn_rate") is not None:
        yield "learn_rate", info["learn_rate"]
    if info.get("seconds"):
        yield "words_per_second", info["words"] / info["seconds"]
    yield from _numbers("losses", info["losses"])
    yield from _numbers("scores", info["other_scores"])


def _numbers(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}/{key}", inner)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)
