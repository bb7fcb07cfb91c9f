"""`spacy electra export`: the encoder of a run as a Hugging Face ElectraModel."""

from dataclasses import replace
from pathlib import Path

import typer
from wasabi import msg

from spacy_electra.cli.errors import clear_errors
from spacy_electra.cli.folder_kinds import MODEL, check_kind
from spacy_electra.cli.halves import check_no_model, remove_halves
from spacy_electra.cli.outputs import check_folder
from spacy_electra.cli.runs import model_folder
from spacy_electra.model.files.huggingface import replaced_model, write_encoder
from spacy_electra.model.files.onnx import FILE, TOLERANCE, check_packages, save_onnx
from spacy_electra.model.init.pretrained import load_encoder
from spacy_electra.model.network.encoder import Encoder


@clear_errors
def export_cli(
    source: str = typer.Argument(..., metavar="RUN", help="Folder of a run or a model, or a name on the hub"),
    out_dir: Path = typer.Argument(..., help="Folder for config.json, model.safetensors and the tokenizer"),
    best: bool = typer.Option(False, "--best", help="Use model-best, not model-last"),
    layers: int | None = typer.Option(None, "--layers", min=1, help="Number of lowest layers to keep"),
    onnx: bool = typer.Option(False, "--onnx", help="Also write model.onnx (extra `onnx`), checked with onnxruntime"),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace an existing model"),
) -> None:
    """Write the discriminator's encoder, without its head, as a Hugging Face ElectraModel.

    \b
    Example:
      python -m spacy electra export training/pretrain models/electra-software --layers 4
    """
    check_kind(out_dir, MODEL)
    check_no_model(out_dir, overwrite=overwrite)
    check_folder(out_dir)
    if onnx:
        check_packages()
    encoder, tokenizer = load_encoder(model_folder(source, best=best))
    if layers is not None:
        encoder = first_layers(encoder, layers)
    with replaced_model(out_dir) as folder:
        write_encoder(encoder, tokenizer, folder)
        if onnx:
            save_onnx(encoder, folder)
    remove_halves(out_dir)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    msg.good(f"Wrote an encoder of {encoder.shape.layers} layers, {count / 1e6:.1f} M parameters, {out_dir}")
    if onnx:
        msg.good(f"Wrote {FILE}, whose vectors are those of torch within {TOLERANCE:g}")


def first_layers(encoder: Encoder, layers: int) -> Encoder:
    """A copy that ends after the first `layers` blocks. Raises ValueError if it has fewer."""
    if layers > encoder.shape.layers:
        raise ValueError(f"--layers {layers} asks for more than the {encoder.shape.layers} layers that the model has.")
    short = Encoder(replace(encoder.shape, layers=layers))
    kept = short.state_dict().keys()
    short.load_state_dict({name: tensor for name, tensor in encoder.state_dict().items() if name in kept})
    return short
