"""Choose which parameters of a pretrained encoder are trained, and from which step on."""

import math
from dataclasses import dataclass

from spacy_electra.model.network.encoder import Encoder
from spacy_electra.pipeline.lora import add_adapters, check_peft, has_adapters


@dataclass(frozen=True)
class FineTuning:
    """Settings for training the encoder of a pipeline."""

    freeze_embeddings: bool = False
    freeze_layers: int = 0  # the lowest blocks that stay as they are, and with any of them the embeddings
    activation_checkpointing: bool = False  # keep the blocks' inputs alone, and compute what is inside again
    lora_rank: int = 0  # inner width of the adapters that learn in place of the weights; 0 for none
    lora_alpha: float = 16.0  # what an adapter adds is multiplied by alpha / rank
    gradual_unfreeze_steps: int = (
        0  # steps from the start of one block's learning to that of the next lower; 0: all at once
    )

    def check(self, layers: int) -> None:
        """Raise ValueError if too many layers are frozen, if none is left for adapters, or if peft is missing.

        layers: number of layers of the encoder.
        """
        if self.lora_rank:
            check_peft(self.lora_rank)
        if self.freeze_layers > layers:
            raise ValueError(
                f"freeze_layers must not exceed the model's {layers} layers, but got {self.freeze_layers}. "
                f"For an encoder that does not learn at all, write configs with "
                f"`python -m spacy electra init-config OUT_DIR --frozen`."
            )
        if self.lora_rank and self.freeze_layers == layers:
            raise ValueError(
                f"lora_rank={self.lora_rank} with freeze_layers={layers} leaves no block that could learn: "
                f"the model has {layers} layers. Lower freeze_layers, or set lora_rank to 0."
            )

    def prepare(self, encoder: Encoder, *, steps: int = 0) -> None:
        """Set which parameters require gradients; layers below all of these need no backward pass.

        steps: optimizer steps taken so far. With LoRA, nothing is trained until `begin` has added the adapters.
        """
        layers = len(encoder.body.blocks)
        stage = (
            steps // self.gradual_unfreeze_steps if self.gradual_unfreeze_steps else layers + 1
        )  # blocks that may learn by now
        is_whole = self.freeze_layers == 0 and stage > layers and not self.lora_rank
        encoder.embeddings.requires_grad_(is_whole and not self.freeze_embeddings)
        encoder.body.project.requires_grad_(is_whole)
        for number, block in enumerate(encoder.body.blocks):
            block.requires_grad_(number >= max(self.freeze_layers, layers - stage) and not self.lora_rank)
        encoder.body.is_recomputed = self.activation_checkpointing

    def begin(self, encoder: Encoder) -> None:
        """Add the LoRA adapters before a training pass, unless there are none to add or they are there.

        Raises ValueError if peft is missing, or if no layer is left for adapters.
        """
        if self.lora_rank and not has_adapters(encoder):
            self.check(len(encoder.body.blocks))
            blocks = list(encoder.body.blocks)[self.freeze_layers :]
            add_adapters(encoder, blocks, rank=self.lora_rank, alpha=self.lora_alpha)

    def changes_after(self, steps: int) -> bool:
        """True if `prepare` may unfreeze another layer after this number of steps."""
        return self.gradual_unfreeze_steps > 0 and steps % self.gradual_unfreeze_steps == 0


def check_fine_tuning(settings: FineTuning) -> None:
    """Raise ValueError for values out of range, and for settings that exclude each other."""
    for name in ("freeze_layers", "lora_rank", "gradual_unfreeze_steps"):
        if (value := getattr(settings, name)) < 0:
            raise ValueError(f"{name} must be at least 0, but got {value}.")
    if not 0.0 < settings.lora_alpha < math.inf:
        raise ValueError(
            f"lora_alpha must be a finite number above 0, but got {settings.lora_alpha}: "
            f"adapters are multiplied by lora_alpha / lora_rank."
        )
    if settings.lora_rank and settings.gradual_unfreeze_steps:
        raise ValueError(
            f"lora_rank={settings.lora_rank} and gradual_unfreeze_steps={settings.gradual_unfreeze_steps} exclude each "
            f"other: with adapters the weights stay frozen. Set one of them to 0."
        )
