/* The kernels for AVX512-VNNI or, with -DSCALAR, their twins in plain C. Both have the same functions. */

#ifndef SPACY_ELECTRA_KERNELS_H
#define SPACY_ELECTRA_KERNELS_H

#ifdef SCALAR
#include "scalar/attention.h"
#include "scalar/epilogues.h"
#include "scalar/gemm.h"
#include "scalar/layer_norm.h"
#include "scalar/packing.h"
#include "scalar/quantize.h"
#else
#include "avx512/attention.h"
#include "avx512/epilogues.h"
#include "avx512/gemm.h"
#include "avx512/layer_norm.h"
#include "avx512/packing.h"
#include "avx512/quantize.h"
#endif

#endif
