// Rounding to bfloat16, and squares of 16 x 16 elements of 32 bits: what packed layouts are made
// of.
#pragma once
#include <cstdint>

#include "compiler.h"
#include "gemm_kernels.h"

namespace aligndraw::cpu {

// to[j][i] = from[i][j] of 16 x 16 elements of 32 bits, in rows so far apart.
ALIGNDRAW_HAS_CLONES void transpose(const uint32_t* from, int64_t from_row, uint32_t* to,
                                    int64_t to_row);

// Pairs of neighbours in k, rounded to the nearest bfloat16, of 16 rows i and 32 columns k:
// to[i][p] = (from[i][2p], from[i][2p + 1]).
ALIGNDRAW_HAS_CLONES void pack_rows(const float* from, int64_t row, uint32_t* to);

// The same of 32 rows k and 16 columns j: to[p][j] = (from[2p][j], from[2p + 1][j]).
ALIGNDRAW_HAS_CLONES void pack_columns(const float* from, int64_t row, uint32_t* to);

// n pairs of neighbours of a row.
ALIGNDRAW_HAS_CLONES void pack_row(const float* from, int64_t n, uint32_t* to);

// Each number becomes the nearest bfloat16.
ALIGNDRAW_HAS_CLONES void round_row(float* row, int64_t n);

}  // namespace aligndraw::cpu
