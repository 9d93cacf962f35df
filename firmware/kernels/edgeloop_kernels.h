/*
 * Kernels for int8 models, C99, without libc.
 *
 * Every kernel gives the bits of the runtime that the generated numerics.h names: TensorFlow Lite for Microcontrollers
 * (gemmlowp's two roundings) or LiteRT (one rounding of a float32). Those called el_litert_... are LiteRT's alone; those
 * with a multiplier and a shift are TFLM's alone; the others are the same in both.
 *
 * Tensors are NHWC with a batch of one. Layer descriptions are constant and live in flash.
 */
#ifndef EDGELOOP_KERNELS_H
#define EDGELOOP_KERNELS_H

#include "edgeloop_features.h"
#include "numerics.h"

#include <stdint.h>

#define EL_ALIGNED __attribute__((aligned(4)))

/* For what runs too rarely to be worth its size. GCC's -Os needs no telling. */
#if defined(__clang__) && defined(__OPTIMIZE_SIZE__)
#define EL_SMALL __attribute__((minsize))
#else
#define EL_SMALL
#endif

/* A dimension of a tensor or a window. */
#if EL_SIZE_BITS == 8
typedef uint8_t el_size;
#elif EL_SIZE_BITS == 16
typedef uint16_t el_size;
#else
typedef int32_t el_size;
#endif

struct el_shape {
    el_size height;
    el_size width;
    el_size channels;
};

/* How a window moves over the input. Padding is what precedes the first element; what follows comes from the shapes. */
struct el_window {
    el_size height;
    el_size width;
    el_size stride_height;
    el_size stride_width;
    el_size dilation_height;
    el_size dilation_width;
    el_size pad_top;
    el_size pad_left;
};

#if EL_NARROW_BIASES
typedef int16_t el_stored_bias;
#else
typedef int32_t el_stored_bias;
#endif

/* int32 sum to int8 output: every output channel has a bias, which sums begin with, and a factor. Its shift lies in the
 * lower 8 bits of a bias with 32, or as its distance from `largest_shift` in the upper 2 of a multiplier, whose own are
 * always 01, or apart; el_bias, el_multiplier and el_shift read what is stored. */
struct el_requantisation {
    const el_stored_bias *bias;
#if EL_NUMERICS_LITERT
    const float *scale;
#else
    const int32_t *multiplier;
#if !EL_SHIFTS_IN_BIASES && !EL_SHIFTS_IN_MULTIPLIERS
    const int8_t *shift;
#endif
#endif
    int8_t output_zero_point;
    int8_t minimum;
    int8_t maximum;
#if EL_SHIFTS_IN_MULTIPLIERS
    int8_t largest_shift;
#endif
};

/* Sums run over input - input_zero_point, so that padding adds nothing. `groups` splits input and output channels alike.
 * Weights are OHWI with the channels of a group in pairs, as matrix.h says. A dense layer is a convolution whose window
 * is one pixel. */
struct el_conv2d {
    struct el_shape input;
    struct el_shape output;
    struct el_window window;
    el_size groups;
    int8_t input_zero_point;
    const int8_t *weights;
    struct el_requantisation requantisation;
};
void el_conv2d(const struct el_conv2d *layer, const int8_t *input, int8_t *output);

/* Weights are HWC over output channels. Output channel c reads input channel c / depth_multiplier. */
struct el_depthwise_conv2d {
    struct el_shape input;
    struct el_shape output;
    struct el_window window;
    el_size depth_multiplier;
    int8_t input_zero_point;
    const int8_t *weights;
    struct el_requantisation requantisation;
};
void el_depthwise_conv2d(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output);
/* For windows of 3 x 3 that are not dilated. */
void el_depthwise_conv2d_3x3(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output);

struct el_pool2d {
    struct el_shape input;
    struct el_shape output;
    struct el_window window;
    int8_t minimum;
    int8_t maximum;
};
void el_average_pool2d(const struct el_pool2d *layer, const int8_t *input, int8_t *output);
void el_max_pool2d(const struct el_pool2d *layer, const int8_t *input, int8_t *output);

/* Reduces the middle one of three dimensions. */
struct el_reduce {
    int32_t outer;
    int32_t reduced;
    int32_t inner;
    int32_t input_zero_point;
    int32_t output_zero_point;
    int32_t multiplier;
    int32_t shift;
};
void el_mean(const struct el_reduce *layer, const int8_t *input, int8_t *output);
void el_reduce_max(const struct el_reduce *layer, const int8_t *input, int8_t *output);

/* An operand is repeated until it covers `size` output values, which is how trailing dimensions broadcast. */
struct el_operand {
    int32_t size;
    int32_t offset;
    int32_t multiplier;
    int32_t shift;
};

/* Addition and subtraction: both operands are brought to a common scale with 20 more bits. A subtraction has a
 * negated second operand. */
struct el_add {
    int32_t size;
    struct el_operand a;
    struct el_operand b;
    int32_t negate_b;
    int32_t output_offset;
    int32_t multiplier;
    int32_t shift;
    int32_t minimum;
    int32_t maximum;
};
void el_add(const struct el_add *layer, const int8_t *a, const int8_t *b, int8_t *output);

struct el_mul {
    int32_t size;
    struct el_operand a;
    struct el_operand b;
    int32_t output_offset;
    int32_t multiplier;
    int32_t shift;
    int32_t minimum;
    int32_t maximum;
};
void el_mul(const struct el_mul *layer, const int8_t *a, const int8_t *b, int8_t *output);

/* (bias + a * multiplier + b * multiplier) / 2^shift; the bias holds a half and both zero points. A subtraction has a
 * negative second multiplier. */
struct el_litert_add {
    int32_t size;
    struct {
        int32_t size;
        int32_t multiplier;
    } a, b;
    int32_t bias;
    int32_t shift;
    int32_t output_zero_point;
    int32_t minimum;
    int32_t maximum;
};
void el_litert_add(const struct el_litert_add *layer, const int8_t *a, const int8_t *b, int8_t *output);

/* (a - zero point) * (b - zero point) * scale. */
struct el_litert_mul {
    int32_t size;
    struct {
        int32_t size;
        int32_t zero_point;
    } a, b;
    float scale;
    int32_t output_zero_point;
    int32_t minimum;
    int32_t maximum;
};
void el_litert_mul(const struct el_litert_mul *layer, const int8_t *a, const int8_t *b, int8_t *output);

/* Mean and sum of the middle one of three dimensions: sum * scale + bias. The bias holds both zero points. */
struct el_litert_mean {
    int32_t outer;
    int32_t reduced;
    int32_t inner;
    float scale;
    float bias;
};
void el_litert_mean(const struct el_litert_mean *layer, const int8_t *input, int8_t *output);

/* float32 to int8: x * factor, the inverse of the scale, rounded, + zero point. */
struct el_litert_quantise {
    int32_t size;
    float factor;
    int32_t zero_point;
};
void el_litert_quantise(const struct el_litert_quantise *layer, const int8_t *input, int8_t *output);

/* Any function of one value: table[value + 128]. */
struct el_lookup {
    int32_t size;
    const int8_t *table;
};
void el_lookup(const struct el_lookup *layer, const int8_t *input, int8_t *output);

/* Up to four dimensions, the last contiguous. */
struct el_pad {
    int32_t input[4];
    int32_t before[4];
    int32_t output[4];
    int32_t value;
};
void el_pad(const struct el_pad *layer, const int8_t *input, int8_t *output);

/* The multiplier and the shift, which is not negative, bring differences to 26 fractional bits; from `terms` on
 * exponentials are too small to count. */
struct el_softmax {
    int32_t rows;
    int32_t depth;
    int32_t terms;
    int32_t multiplier;
    int32_t shift;
};
void el_softmax(const struct el_softmax *layer, const int8_t *input, int8_t *output);

/* The convolution that `window` describes, from the output to the input, backwards. Weights are OHWI. */
struct el_transpose_conv2d {
    struct el_shape input;
    struct el_shape output;
    struct el_window window;
    int8_t input_zero_point;
    const int8_t *weights;
    struct el_requantisation requantisation;
};
void el_transpose_conv2d(const struct el_transpose_conv2d *layer, const int8_t *input, int8_t *output);

/* A real factor as multiplier / 2^31 * 2^shift. */
struct el_factor {
    int32_t multiplier;
    int32_t shift;
};

/* A gate's weights are units x depth and units x units; its biases hold -zero_point * sum(weights). */
struct el_lstm_gate {
    struct el_factor input;
    struct el_factor recurrent;
    const int8_t *input_weights;
    const int32_t *input_bias;
    const int8_t *recurrent_weights;
    const int32_t *recurrent_bias;
};

/* `hidden` is the last output, `cell` an int16 for every unit; both are kept for the next inference. */
struct el_lstm {
    int32_t steps;
    int32_t depth;
    int32_t units;
    struct el_factor forget_cell;
    struct el_factor input_cell;
    struct el_factor hidden;
    int32_t hidden_zero_point;
    int32_t cell_exponent;
    int32_t cell_clip;
    struct el_lstm_gate input_gate;
    struct el_lstm_gate forget_gate;
    struct el_lstm_gate cell_gate;
    struct el_lstm_gate output_gate;
    const uint16_t *sigmoid;
};
void el_lstm(const struct el_lstm *layer, const int8_t *input, int8_t *output, int8_t *hidden, int8_t *cell);

/* A slope that is a tensor, for values below zero. The slope is repeated like an operand. */
struct el_prelu {
    int32_t size;
    int32_t slope_size;
    int32_t input_offset;
    int32_t slope_offset;
    int32_t output_offset;
    int32_t multiplier_above;
    int32_t shift_above;
    int32_t multiplier_below;
    int32_t shift_below;
};
void el_prelu(const struct el_prelu *layer, const int8_t *input, const int8_t *slope, int8_t *output);

/* The larger or the smaller of two values that have one scale. */
struct el_extremum {
    int32_t size;
    int32_t a_size;
    int32_t b_size;
};
void el_maximum(const struct el_extremum *layer, const int8_t *a, const int8_t *b, int8_t *output);
void el_minimum(const struct el_extremum *layer, const int8_t *a, const int8_t *b, int8_t *output);

void el_reduce_min(const struct el_reduce *layer, const int8_t *input, int8_t *output);

/* Where along the middle one of three dimensions the extreme value is, as int32. The first of equal ones counts. */
struct el_arg_extremum {
    int32_t outer;
    int32_t length;
    int32_t inner;
};
void el_arg_max(const struct el_arg_extremum *layer, const int8_t *input, int8_t *output);
void el_arg_min(const struct el_arg_extremum *layer, const int8_t *input, int8_t *output);

/* Copies runs of bytes in any order: transposes, slices, joins, repeats (stride 0) and reflects (stride below 0). */
#define EL_REARRANGE_LOOPS 4
struct el_rearrange {
    int32_t run_bytes;
    int32_t count[EL_REARRANGE_LOOPS];
    int32_t read_first;
    int32_t read_stride[EL_REARRANGE_LOOPS];
    int32_t write_first;
    int32_t write_stride[EL_REARRANGE_LOOPS];
};
void el_rearrange(const struct el_rearrange *layer, const int8_t *input, int8_t *output);

/* rows[y] and columns[x] are the input's pixel for the output's. */
struct el_resize_nearest {
    int32_t output_height;
    int32_t output_width;
    int32_t input_width;
    int32_t channels;
    const int32_t *rows;
    const int32_t *columns;
};
void el_resize_nearest(const struct el_resize_nearest *layer, const int8_t *input, int8_t *output);

/* rows and columns hold, for every place of the output, the two places of the input and the weight of the second one,
 * with 10 fractional bits. TFLM's bits alone. */
struct el_resize_bilinear {
    int32_t output_height;
    int32_t output_width;
    int32_t input_width;
    int32_t channels;
    const int32_t *rows;
    const int32_t *columns;
};
void el_resize_bilinear(const struct el_resize_bilinear *layer, const int8_t *input, int8_t *output);

/* An operand of a product: strides along its rows (or columns), along what is summed, and along the batches. */
struct el_matrix {
    int32_t zero_point;
    int32_t outer_stride;
    int32_t depth_stride;
    int32_t batch_stride[3];
};

/* Products of matrices that are both computed, or of any layout. TFLM's bits alone. */
struct el_batch_matmul {
    int32_t batches[3];
    int32_t rows;
    int32_t depth;
    int32_t columns;
    struct el_matrix a;
    struct el_matrix b;
    int32_t output_zero_point;
    int32_t multiplier;
    int32_t shift;
};
void el_batch_matmul(const struct el_batch_matmul *layer, const int8_t *a, const int8_t *b, int8_t *output);

/* Filters over the newest frame, `rank` for each unit, whose last `memory` results are the state, and then over those.
 * `feature_bias` holds -zero_point * sum(weights). The state is of int8 or int16, and so are the weights of time. */
struct el_svdf {
    int32_t depth;
    int32_t units;
    int32_t rank;
    int32_t memory;
    int32_t output_zero_point;
    struct el_factor to_state;
    struct el_factor to_output;
    const int8_t *feature_weights;
    const int32_t *feature_bias;
    const int8_t *time_weights_int8;
    const int16_t *time_weights_int16;
    const int32_t *bias;
};
void el_svdf_int8(const struct el_svdf *layer, const int8_t *input, int8_t *output, int8_t *state);
void el_svdf_int16(const struct el_svdf *layer, const int8_t *input, int8_t *output, int8_t *state);

/* At a model's edges. Tensors of wider types lie in the same bytes, aligned to 4, little-endian. */
struct el_quantise {
    int32_t size;
    float scale;
    int32_t zero_point;
    int32_t minimum;
    int32_t maximum;
};
void el_quantise_to_int8(const struct el_quantise *layer, const int8_t *input, int8_t *output);
void el_quantise_to_int16(const struct el_quantise *layer, const int8_t *input, int8_t *output);

struct el_dequantise {
    int32_t size;
    float scale;
    int32_t zero_point;
};
void el_dequantise_int8(const struct el_dequantise *layer, const int8_t *input, int8_t *output);
void el_dequantise_uint8(const struct el_dequantise *layer, const int8_t *input, int8_t *output);
void el_dequantise_int16(const struct el_dequantise *layer, const int8_t *input, int8_t *output);

struct el_requantise_types {
    int32_t size;
    int32_t input_zero_point;
    int32_t output_zero_point;
    int32_t multiplier;
    int32_t shift;
    int32_t minimum;
    int32_t maximum;
};
void el_requantise_uint8_to_int8(const struct el_requantise_types *layer, const int8_t *input, int8_t *output);
void el_requantise_int8_to_uint8(const struct el_requantise_types *layer, const int8_t *input, int8_t *output);
void el_requantise_int16_to_int8(const struct el_requantise_types *layer, const int8_t *input, int8_t *output);
void el_requantise_int8_to_int16(const struct el_requantise_types *layer, const int8_t *input, int8_t *output);

/* In rounded thousandths, as what milli.h has for integers. */
int32_t el_milli_float32(const int8_t *tensor, uint32_t element);

void el_copy(int8_t *to, const int8_t *from, int32_t bytes);
void el_set(int8_t *to, int8_t value, int32_t bytes);

#endif
