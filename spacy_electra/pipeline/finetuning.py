"""Which parts of a pretrained encoder go on learning in a pipeline, and at what cost of memory."""

from dataclasses import dataclass

from spacy_electra.model.encoder import Encoder


@dataclass(frozen=True)
class FineTuning:
    """What the config says of training the encoder."""

    freeze_embeddings: bool = False
    freeze_layers: int = 0  # the lowest blocks that stay as they are, and with any of them the embeddings
    activation_checkpointing: bool = False  # keep the blocks' inputs alone, and compute what is inside again

    def check(self, layers: int) -> None:
        """Raise ValueError where the encoder has fewer blocks than shall be frozen."""
        if self.freeze_layers > layers:
            raise ValueError(
                f"freeze_layers must not exceed the model's {layers} layers, but got {self.freeze_layers}. "
                f"For an encoder that does not learn at all, list the transformer in training.frozen_components."
            )

    def prepare(self, encoder: Encoder) -> None:
        """Let the rest of the encoder learn. What does not learn needs no gradients, and costs no backward pass."""
        encoder.requires_grad_(True)
        if self.freeze_embeddings or self.freeze_layers:
            encoder.embeddings.requires_grad_(False)
        if self.freeze_layers:
            encoder.body.project.requires_grad_(False)
        for block in list(encoder.body.blocks)[: self.freeze_layers]:
            block.requires_grad_(False)
        encoder.body.is_recomputed = self.activation_checkpointing


def check_fine_tuning(settings: FineTuning) -> None:
    """Raise ValueError for a number of layers that no model has."""
    if settings.freeze_layers < 0:
        raise ValueError(f"freeze_layers must be at least 0, but got {settings.freeze_layers}.")
