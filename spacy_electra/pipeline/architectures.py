"""The architectures that configs name. Wiring only."""

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
    """The `model` of a `transformer` component: `spacy-electra.ElectraTransformer.v2`.

    name: directory or hub name of an ELECTRA, BERT or DistilBERT, read by `nlp.initialize`; saved pipelines need none.
    window: tokens of the longest window, [CLS] and [SEP] included; null for all positions of the model.
    stride: most pieces from the start of one window to that of the next; null for eight ninths of a window's pieces.
    precision: "auto", "fp32", "bf16" or "fp16", of predictions and of training; "int8" of predictions alone.
    int8_excluded: parts that stay out of int8, such as "layer.0.attention" and "layer.11.feed_forward".
    dropout: share of hidden values and attention weights dropped in training, whatever `[training] dropout` says.
    max_batch_tokens: most tokens of a batch, padding included.
    freeze_embeddings: leave the embeddings as they were pretrained.
    freeze_layers: how many of the lowest layers stay as they were pretrained, and with any of them the embeddings.
    activation_checkpointing: less memory in training for a third more time.
    lora_rank: inner width of adapters (LoRA, needs peft) that learn in place of the weights, 0 for none. They are part
        of the weights in predictions and on disk.
    lora_alpha: what an adapter adds is multiplied by lora_alpha / lora_rank.
    gradual_unfreeze_steps: the encoder begins frozen, and after each so many steps one more of its layers learns, from
        the top, at last the embeddings; 0: all learn from the start.
    weights_on_disk: "fp32", or "int8" for two fifths of the size or less: linear layers in int8, the rest in fp16. A
        pipeline that is loaded from these has what rounding left.
    cache_mb: megabytes for vectors of documents that were seen before, 0 for none. It serves a frozen transformer that
        annotates the same corpus in every epoch.
    keep_mb: megabytes for vectors of documents that live; more are dropped, those computed first, and computed again
        when somebody reads them.
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
    """An encoder that belongs to one component: `spacy-electra.Tok2VecElectra.v2`; also what replaces a listener.

    name: as for `build_electra_transformer`, as all that is not named here.
    pooling: how the vectors of a token's pieces become one. White space has no pieces, so it must know what to do then,
        as `reduce_mean.v1` and `reduce_sum.v1` do.
    grad_factor: of the gradients that reach the encoder.
    keep_mb: means nothing here, since documents get no vectors.
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
