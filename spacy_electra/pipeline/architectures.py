"""The registered architectures. Wiring only."""

from spacy.tokens import Doc
from thinc.api import Model
from thinc.types import Floats2d, Ragged

from spacy_electra.pipeline.finetuning import FineTuning
from spacy_electra.pipeline.kept import KEEP_MB
from spacy_electra.pipeline.private import pool_tokens
from spacy_electra.pipeline.spacy_transformers_api import FullTransformerBatch
from spacy_electra.pipeline.transformer import TransformerSettings, electra_transformer


def build_electra_transformer(
    name: str | None,
    window: int | None = None,
    stride: int | None = None,
    precision: str = "auto",
    int8_excluded: list[str] | None = None,
    dropout: float = 0.1,
    max_batch_tokens: int = 4096,
    freeze_embeddings: bool = False,
    freeze_layers: int = 0,
    activation_checkpointing: bool = False,
    lora_rank: int = 0,
    lora_alpha: float = 16.0,
    gradual_unfreeze_steps: int = 0,
    weights_on_disk: str = "fp32",
    cache_mb: float = 0.0,
    keep_mb: float = KEEP_MB,
) -> Model[list[Doc], FullTransformerBatch]:
    """Build the `model` of a `transformer` component: `spacy-electra.ElectraTransformer.v2`.

    name: directory or hub name of an ELECTRA, BERT or DistilBERT, read by `nlp.initialize`; saved pipelines need none.
    window: maximum tokens of a window, [CLS] and [SEP] included; null for all positions of the model.
    stride: maximum pieces from the start of one window to that of the next; null for the default of docs/config.md.
    precision: "auto", "fp32", "bf16" or "fp16", of prediction and training; or "int8", of prediction only.
    int8_excluded: modules that are not quantized to int8, such as "layer.0.attention" and "layer.11.feed_forward".
    dropout: rate for hidden states and attention weights in training; `[training] dropout` has no effect on it.
    max_batch_tokens: maximum tokens of a batch, padding included.
    freeze_embeddings: do not train the embeddings.
    freeze_layers: number of lowest layers that are not trained. If above 0, the embeddings are frozen as well.
    activation_checkpointing: recompute activations in the backward pass, for less memory and a third more time.
    lora_rank: rank of the LoRA adapters that are trained in place of the weights (needs peft); 0 for none. They are
        merged into the weights for predictions and on disk.
    lora_alpha: the output of an adapter is scaled by lora_alpha / lora_rank.
    gradual_unfreeze_steps: steps after which one more layer is trained, from the top down, and finally the embeddings.
        The encoder begins frozen. 0: all layers are trained from the start.
    weights_on_disk: "fp32", or "int8" for linear layers in int8 and all other weights in fp16, two fifths of the size
        or less. A pipeline that is loaded from these has the rounded weights.
    cache_mb: megabytes of a cache for vectors of recent documents, 0 for none. It helps a frozen transformer that
        annotates the same corpus in every epoch.
    keep_mb: maximum megabytes of vectors that documents hold. The oldest are dropped, and recomputed on access.
    """
    fine_tuning = FineTuning(
        freeze_embeddings=freeze_embeddings,
        freeze_layers=freeze_layers,
        activation_checkpointing=activation_checkpointing,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        gradual_unfreeze_steps=gradual_unfreeze_steps,
    )
    settings = TransformerSettings(name=name, window=window, stride=stride, dropout=dropout, fine_tuning=fine_tuning)
    return electra_transformer(
        settings,
        max_batch_tokens=max_batch_tokens,
        precision=precision,
        int8_excluded=int8_excluded or (),
        weights_on_disk=weights_on_disk,
        cache_mb=cache_mb,
        keep_mb=keep_mb,
    )


def build_tok2vec_electra(
    name: str | None,
    pooling: Model[Ragged, Floats2d],
    grad_factor: float = 1.0,
    window: int | None = None,
    stride: int | None = None,
    precision: str = "auto",
    int8_excluded: list[str] | None = None,
    dropout: float = 0.1,
    max_batch_tokens: int = 4096,
    freeze_embeddings: bool = False,
    freeze_layers: int = 0,
    activation_checkpointing: bool = False,
    lora_rank: int = 0,
    lora_alpha: float = 16.0,
    gradual_unfreeze_steps: int = 0,
    weights_on_disk: str = "fp32",
    cache_mb: float = 0.0,
    keep_mb: float = KEEP_MB,
) -> Model[list[Doc], list[Floats2d]]:
    """Build an encoder for a single component, also for `nlp.replace_listeners`: `spacy-electra.Tok2VecElectra.v2`.

    name: as for `build_electra_transformer`, like all arguments that are not listed here.
    pooling: reduces the vectors of a token's pieces to one. White space has no pieces, so it must accept empty
        sequences, as `reduce_mean.v1` and `reduce_sum.v1` do.
    grad_factor: factor for the gradients that reach the encoder.
    keep_mb: has no effect, since documents hold no vectors here.
    """
    transformer = build_electra_transformer(
        name=name,
        window=window,
        stride=stride,
        precision=precision,
        int8_excluded=int8_excluded,
        dropout=dropout,
        max_batch_tokens=max_batch_tokens,
        freeze_embeddings=freeze_embeddings,
        freeze_layers=freeze_layers,
        activation_checkpointing=activation_checkpointing,
        lora_rank=lora_rank,
        lora_alpha=lora_alpha,
        gradual_unfreeze_steps=gradual_unfreeze_steps,
        weights_on_disk=weights_on_disk,
        cache_mb=cache_mb,
        keep_mb=keep_mb,
    )
    return pool_tokens(transformer, pooling, grad_factor)
