"""`spacy electra debug backend`: which backend runs here, why not a faster one, and what would change that."""

from collections.abc import Iterator
from dataclasses import dataclass

import spacy
import torch
import typer
from wasabi import msg

from spacy_electra.benchmark.measure import describe_machine
from spacy_electra.cli.configs import pretrain_config
from spacy_electra.cli.device import choose_device
from spacy_electra.cli.errors import clear_errors
from spacy_electra.model.inference import backend as backends
from spacy_electra.model.inference.backend import Machine, PassedOver, choose_backend, passed_over
from spacy_electra.model.network.encoder import EncoderShape
from spacy_electra.model.precision import INT8, NAMES
from spacy_electra.pipeline.quantization import encoder_sections, shim_in

SHOWN_SIZES = ("tiny", "small")  # of the models that are looked at without a pipeline
SHOWN = ("fp32", "auto", INT8)
VOCAB = 8000  # of these models, on which no choice depends
UNITS = {
    "avx512_bf16": "AVX512-BF16",
    "vnni": "AVX512-VNNI",
    "amx": "AMX",
    "onednn_bf16": "bfloat16 products of oneDNN",
}


@dataclass(frozen=True)
class Subject:
    """An encoder to show backends for."""

    name: str
    shape: EncoderShape
    precision: str | None = None  # that its config asks for


@clear_errors
def debug_backend(
    pipeline: str | None = typer.Argument(
        None, metavar="[PIPELINE]", help="Folder of a pipeline, or an installed package; models of two sizes if omitted"
    ),
    gpu_id: int = typer.Option(-1, "--gpu-id", "-g", help="Number of the GPU; -1 for the CPU"),
) -> None:
    """Print which backend predicts on this machine in each precision, and why not a faster one.

    The type that training computes in is printed as well. docs/backends.md describes the backends and their speed.

    \b
    Example:
      python -m spacy electra debug backend training/pipeline/model-best
    """
    device = choose_device(gpu_id, memory_fraction=1.0)
    subjects = list(sizes() if pipeline is None else encoders_in(pipeline))
    msg.info(describe_machine(device))
    print(machine_in_words(backends.machine_of(device)))
    for subject in subjects:
        show(subject, device)


def sizes() -> Iterator[Subject]:
    """The encoders of some presets, to show backends for without a pipeline."""
    for size in SHOWN_SIZES:
        model = pretrain_config(size, gpu=False)["model"]
        yield Subject(size, EncoderShape(**model["discriminator"], vocab=VOCAB, positions=model["window"]))


def encoders_in(pipeline: str) -> list[Subject]:
    """The encoders of this package in a pipeline. Raises ValueError if there are none."""
    nlp = spacy.load(pipeline)
    found = [(section, shim_in(nlp, section)) for section in encoder_sections(nlp)]
    if not found:
        raise ValueError(
            f"{pipeline} has no transformer of this package. Its components are {', '.join(nlp.pipe_names)}: give a "
            f"pipeline with spacy-electra.ElectraTransformer.v2, or none to see what models of two sizes would do."
        )
    return [Subject(section, shim.shape, shim.precision) for section, shim in found]


def machine_in_words(machine: Machine) -> str:
    """Describe what a device can do."""
    if machine.device == "cuda":
        return f"NVIDIA card of capability {'.'.join(map(str, machine.cuda_capability))}"
    units = [told for name, told in UNITS.items() if getattr(machine, name)]
    kernels = "no processor for the C kernels"
    if machine.vnni:
        kernels = "C kernels are loaded" if machine.kernels_error is None else "C kernels cannot be loaded"
    return f"It has {', '.join(units) or 'no units that a choice depends on'}; {kernels}."


def show(subject: Subject, device: torch.device) -> None:
    """Print the backends for one encoder, and what the faster ones lack."""
    shape = subject.shape
    numbers = f"{shape.layers} layers, width {shape.width}, feed-forward width {shape.feed_forward}"
    print(f"\n{subject.name}: {numbers}, {shape.heads} heads")
    precisions = list(dict.fromkeys([*SHOWN, *filter(None, [subject.precision])]))
    rows = []
    for precision in precisions:
        choice = choose_backend(precision, device, shape)
        is_set = "as its config says" if precision == subject.precision else ""
        rows.append((precision, choice.prediction.value, NAMES[choice.training], is_set))
    msg.table(rows, header=("precision", "predicts with", "trains in", ""), divider=True)
    told: list[PassedOver] = []
    for precision in precisions:
        for over in passed_over(precision, device, shape):
            if over not in told:
                told.append(over)
                print(f"{precision}, no {over.backend.value}: {'; '.join(over.lacks)}.")
                print(f"  To change that: {'; '.join(over.remedies)}.")
