/* What callers pass in, and what they get. `library.py` of spacy-electra mirrors these structures.

   Legend: V vocabulary, P positions, E width of embeddings, D width of the encoder, S tokens, B sequences,
   N outputs. */

#ifndef SPACY_ELECTRA_ABI_H
#define SPACY_ELECTRA_ABI_H

#include <stdint.h>

/* To be raised here and in library.py with every change of a structure, of a function or of how weights are packed. */
enum { ABI_VERSION = 5 };

typedef enum { OK = 0, OUT_OF_MEMORY = 1, INVALID_ARGUMENT = 2 } Status;

/* The integers of a matrix multiplication. A 32-bit word holds four int8 or two int16. */
typedef enum { INT8 = 1, INT16 = 2 } Precision;

/* A linear layer with a scale for each output. All pointers but `weights` are to `out_features` numbers. */
typedef struct {
    const int32_t *weights; /* packed in panels, see gemm.h */
    const float *scales;
    const float *weight_sums; /* of each output over its inputs, for int8 alone */
    const float *bias;
    int64_t in_features;
    int64_t out_features;
    int64_t precision;
} Linear;

typedef struct {
    const float *gamma;
    const float *beta;
    float eps;
} LayerNorm;

typedef struct {
    Linear qkv;
    Linear output;
    Linear up;
    Linear down;
    LayerNorm norm1; /* after attention */
    LayerNorm norm2; /* after the feed-forward layers */
} Layer;

typedef struct {
    const float *word_embeddings;     /* (V, E) */
    const float *position_embeddings; /* (P, E), with those of token type 0 added */
    LayerNorm embedding_norm;
    int64_t embedding_size; /* E */
    Linear projection;      /* E to D; without weights where both are equal */
    const Layer *layers;
    int64_t num_layers;
    int64_t hidden_size; /* D */
    int64_t num_heads;
    int64_t vocab_size;
    int64_t max_positions;
} Encoder;

/* Sequences side by side without padding, in the form of flash-attn's varlen functions. */
typedef struct {
    const int64_t *input_ids;    /* (S,) */
    const int64_t *position_ids; /* (S,) */
    const int64_t *output_rows;  /* (S,) row of `out` that takes a token's vector, below 0 for none */
    const int64_t *cu_seqlens;   /* (B + 1,) first token of each sequence, at last S */
    int64_t num_sequences;
    int64_t num_tokens;
    int64_t num_outputs;
    float *out; /* (N, D) */
} Batch;

enum { NUM_STRUCTS = 5 };

int spacy_electra_abi_version(void);

/* Bytes of Linear, LayerNorm, Layer, Encoder and Batch, in this order. */
void spacy_electra_struct_sizes(int64_t sizes[NUM_STRUCTS]);

/* Encode a batch on up to `num_threads` threads. Returns a Status. */
int spacy_electra_encode(const Encoder *encoder, const Batch *batch, int64_t num_threads);

#endif
