/* Products of a few rows of inputs with two channels of weights: the inner loop of convolutions and dense layers.
 *
 * Weights come in pairs of channels, value by value: a0 b0 a1 b1 ..., padded with zeros to a multiple of
 * EL_DEPTH_STEP values. Inputs are widened to 16 bits, two values in a word, and the words of the rows take turns. */
#ifndef EDGELOOP_MATRIX_H
#define EDGELOOP_MATRIX_H

#include "dsp.h"

#include <stdint.h>

#define EL_DEPTH_STEP 4

#if EL_DSP
#define EL_ROWS 4
#else
#define EL_ROWS 1
#endif

/* Widens `depth` values less their zero point, a multiple of EL_DEPTH_STEP, into every EL_ROWS-th word of `to`; returns
 * where the next ones go. */
int32_t *el_widen(const int8_t *from, int32_t depth, int32_t zero_point, int32_t *to);

/* sums[c * EL_ROWS + r] += row r . channel c. */
void el_multiply_rows(const int32_t *rows, const int8_t *weights, int32_t depth, int32_t *sums);

/* The same for the first row alone. */
void el_multiply_row(const int32_t *rows, const int8_t *weights, int32_t depth, int32_t *sums);

#endif
