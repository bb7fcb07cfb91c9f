/* The kernels of a header each as functions that ctypes can call, and where the members of structures lie. */

#include <stddef.h>

#include "../../kernels/src/encoder.c"

void call_gemm(int precision, const int32_t *x, int64_t stride, int64_t rows, const int32_t *weights, int64_t columns,
               int64_t depth, float *out)
{
    gemm((Precision)precision, (GemmRows){x, stride}, rows, weights, columns, depth, (GemmSums){out, columns});
}

void call_pack_keys(const int16_t *data, int64_t stride, int64_t length, int64_t channels, int32_t *packed)
{
    pack_keys((HeadRows){data, stride, length, channels}, packed);
}

void call_pack_values(const int16_t *data, int64_t stride, int64_t length, int64_t channels, int32_t *packed)
{
    pack_values((HeadRows){data, stride, length, channels}, packed);
}

void call_sum_packed_keys(const int32_t *packed, int64_t columns, int64_t depth, float *offsets)
{
    sum_packed_keys(packed, columns, depth, offsets);
}

void call_add_and_norm_embeddings(const float *a, const float *b, float *out, int64_t width, const LayerNorm *norm)
{
    add_and_norm_embeddings(a, b, out, width, *norm);
}

void call_quantize_int16(const float *x, int64_t size, int16_t *out, QuantParams *params)
{
    *params = (QuantParams){quantize_int16(x, size, out), 0.0f};
}

void call_quantize_int8_symmetric(const float *x, int64_t size, uint8_t *out, QuantParams *params)
{
    *params = (QuantParams){quantize_int8_symmetric(QUERY_ZERO_POINT, x, size, out), 0.0f};
}

void call_quantize_int8_rotated(const float *x, int64_t size, uint8_t *out, QuantParams *params)
{
    float *rotated = malloc((size_t)size * sizeof(float));
    *params = quantize_int8_rotated(x, size, out, rotated);
    free(rotated);
}

void call_dequantize(const Linear *layer, const float *sums, const QuantParams *params, int64_t begin, int64_t count,
                     float *out)
{
    dequantize(layer, sums, *params, begin, count, out);
}

void call_add_and_norm(float *x, const Linear *layer, const float *sums, const QuantParams *params, int64_t rows,
                       const LayerNorm *norm)
{
    add_and_norm(x, layer, sums, params, rows, *norm);
}

void call_gelu_and_quantize(const Linear *up, const Linear *down, const float *sums, const QuantParams *params,
                            int32_t *words, QuantParams *result)
{
    float *scratch = malloc((size_t)up->out_features * sizeof(float));
    *result = gelu_and_quantize(up, down, sums, *params, scratch, words);
    free(scratch);
}

/* One head; queries, keys and values side by side in `qkv` (length, 3, head_dim), their scales in (length, 3). */
void call_attend(int precision, const int16_t *qkv, const float *scales, int64_t length, int64_t head_dim,
                 int64_t begin, int64_t end, float *out)
{
    Encoder encoder = {.layers = &(Layer){.up = {.out_features = head_dim}}, .hidden_size = head_dim, .num_heads = 1};
    Call call = {.encoder = &encoder, .max_length = length};
    Buffers buffers;
    char *memory = aligned_alloc(ALIGNMENT, (size_t)planned_bytes(&call, 1, 0)), *rest = memory;
    plan_buffers(&call, &rest, &buffers);
    AttentionHead head = {(Precision)precision,
                          qkv,
                          qkv + head_dim,
                          qkv + 2 * head_dim,
                          3 * head_dim,
                          scales,
                          scales + 1,
                          scales + 2,
                          3,
                          length,
                          head_dim};
    attend(head, (Range){begin, end}, buffers.attention, out, head_dim);
    free(memory);
}

/* Offsets of all members of the structures of abi.h, in their order. */
int count_offsets(const int64_t **offsets)
{
#define AT(structure, member) (int64_t)offsetof(structure, member)
    static const int64_t all[] = {
        AT(Linear, weights),
        AT(Linear, scales),
        AT(Linear, weight_sums),
        AT(Linear, bias),
        AT(Linear, in_features),
        AT(Linear, out_features),
        AT(Linear, precision),
        AT(LayerNorm, gamma),
        AT(LayerNorm, beta),
        AT(LayerNorm, eps),
        AT(Layer, qkv),
        AT(Layer, output),
        AT(Layer, up),
        AT(Layer, down),
        AT(Layer, norm1),
        AT(Layer, norm2),
        AT(Encoder, word_embeddings),
        AT(Encoder, position_embeddings),
        AT(Encoder, embedding_norm),
        AT(Encoder, embedding_size),
        AT(Encoder, projection),
        AT(Encoder, layers),
        AT(Encoder, num_layers),
        AT(Encoder, hidden_size),
        AT(Encoder, num_heads),
        AT(Encoder, vocab_size),
        AT(Encoder, max_positions),
        AT(Batch, input_ids),
        AT(Batch, position_ids),
        AT(Batch, output_rows),
        AT(Batch, cu_seqlens),
        AT(Batch, num_sequences),
        AT(Batch, num_tokens),
        AT(Batch, num_outputs),
        AT(Batch, out),
    };
    *offsets = all;
    return sizeof(all) / sizeof(all[0]);
}
