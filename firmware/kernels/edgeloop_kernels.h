/*
 * Integer kernels for int8 models, C99, without libc.
 *
 * Every kernel gives the bits that TensorFlow Lite for Microcontrollers gives: gemmlowp's two roundings, per-channel
 * scales. Tensors are NHWC with a batch of one. Layer descriptions are constant and live in flash.
 */
#ifndef EDGELOOP_KERNELS_H
#define EDGELOOP_KERNELS_H

#include <stdint.h>

#define EL_ALIGNED __attribute__((aligned(4)))

struct el_shape {
    int32_t height;
    int32_t width;
    int32_t channels;
};

/* How a window moves over the input. Padding is what precedes the first element; what follows comes from the shapes. */
struct el_window {
    int32_t height;
    int32_t width;
    int32_t stride_height;
    int32_t stride_width;
    int32_t dilation_height;
    int32_t dilation_width;
    int32_t pad_top;
    int32_t pad_left;
};

/* int32 sum to int8 output, one multiplier and shift per output channel. */
struct el_requantisation {
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t output_zero_point;
    int32_t minimum;
    int32_t maximum;
};

/* `bias` already holds -input_zero_point * sum(weights), so that sums run over plain inputs. Padding counts as
 * input_zero_point. `groups` splits input and output channels alike. Weights are OHWI with the channels of a group in
 * pairs, as matrix.h says. */
struct el_conv2d {
    struct el_shape input;
    struct el_shape output;
    struct el_window window;
    int32_t groups;
    int32_t input_zero_point;
    const int8_t *weights;
    const int32_t *bias;
    struct el_requantisation requantisation;
};
void el_conv2d(const struct el_conv2d *layer, const int8_t *input, int8_t *output);

/* Weights are HWC over output channels. Output channel c reads input channel c / depth_multiplier. */
struct el_depthwise_conv2d {
    struct el_shape input;
    struct el_shape output;
    struct el_window window;
    int32_t depth_multiplier;
    int32_t input_zero_point;
    const int8_t *weights;
    const int32_t *bias;
    struct el_requantisation requantisation;
};
void el_depthwise_conv2d(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output);
/* For windows of 3 x 3 that are not dilated. */
void el_depthwise_conv2d_3x3(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output);

/* `rows` inputs of `depth` values each. Weights are units x depth with the units in pairs, as matrix.h says. */
struct el_fully_connected {
    int32_t rows;
    int32_t depth;
    int32_t units;
    const int8_t *weights;
    const int32_t *bias;
    struct el_requantisation requantisation;
};
void el_fully_connected(const struct el_fully_connected *layer, const int8_t *input, int8_t *output);

struct el_pool2d {
    struct el_shape input;
    struct el_shape output;
    struct el_window window;
    int32_t minimum;
    int32_t maximum;
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

/* exponentials[maximum - value] is exp(scale * (value - maximum)) with 31 fractional bits. */
struct el_softmax {
    int32_t rows;
    int32_t depth;
    const int32_t *exponentials;
};
void el_softmax(const struct el_softmax *layer, const int8_t *input, int8_t *output);

#endif
