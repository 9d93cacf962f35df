#include "requantise.h"

#if EL_DSP

/* A tile of the input of one channel, widened to 16 bits, lies on the stack. Rows have a fixed pitch, so that all nine
 * taps are at constant distances. A pair of outputs may look two values past the last column it needs. */
#define PITCH 64
#define TILE_ROWS 14
#define TILE_COLUMNS (PITCH - 2)
#define SUMS 128

/* Which outputs a tile holds, and the input that they see: both as first and as count. */
struct stretch {
    int32_t output;
    int32_t outputs;
    int32_t input;
    int32_t inputs;
};

static struct stretch stretch_from(int32_t output, int32_t size, int32_t stride, int32_t pad, int32_t room)
{
    const int32_t fitting = (room - 3) / stride + 1;
    const int32_t outputs = size - output < fitting ? size - output : fitting;
    const struct stretch stretch = {output, outputs, output * stride - pad, (outputs - 1) * stride + 3};
    return stretch;
}

static void widen_row(const int8_t *from, int32_t step, int32_t count, int16_t *to)
{
#pragma GCC unroll 4
    for (; count > 0; count--, from += step) {
        *to++ = *from;
    }
}

static void fill_row(int32_t value, int32_t count, int16_t *to)
{
    for (; count > 0; count--) {
        *to++ = (int16_t)value;
    }
}

/* `input` is the channel's first value. */
static void load_tile(const struct el_depthwise_conv2d *layer, const int8_t *input, struct stretch rows,
                      struct stretch columns, int16_t *to)
{
    const int32_t channels = layer->input.channels;
    const int32_t before = columns.input < 0 ? -columns.input : 0;
    const int32_t beyond = columns.input + columns.inputs - layer->input.width;
    const int32_t after = beyond > 0 ? beyond : 0;
    const int32_t inside = columns.inputs - before - after;

    for (int32_t row = 0; row < rows.inputs; row++, to += PITCH) {
        const int32_t y = rows.input + row;
        if (y < 0 || y >= layer->input.height) {
            fill_row(layer->input_zero_point, columns.inputs, to);
            continue;
        }
        fill_row(layer->input_zero_point, before, to);
        widen_row(input + (y * layer->input.width + columns.input + before) * channels, channels, inside, to + before);
        fill_row(layer->input_zero_point, after, to + before + inside);
    }
}

/* Taps 0 and 1, and taps 1 and 2, of each row, as halfwords. */
struct taps {
    int32_t left[3];
    int32_t right[3];
};

static struct taps taps_of(const int8_t *weights, int32_t step)
{
    struct taps taps;
    for (int32_t row = 0; row < 3; row++, weights += 3 * step) {
        taps.left[row] = el_lower_halves(weights[0], weights[step]);
        taps.right[row] = el_lower_halves(weights[step], weights[2 * step]);
    }
    return taps;
}

/* One row of outputs. Neighbours share their loads when the window moves by one. */
static void sum_row(const int16_t *from, struct taps taps, int32_t bias, int32_t stride, int32_t count, int32_t *sums)
{
    if (stride == 1) {
        for (; count > 0; count -= 2, from += 2, sums += 2) {
            int32_t first = bias;
            int32_t second = bias;
            for (int32_t row = 0; row < 3; row++) {
                const int32_t near = el_word_at(from + row * PITCH);
                const int32_t far = el_word_at(from + row * PITCH + 2);
                first = __smlad(near, taps.left[row], first);
                first = __smlabt(far, taps.right[row], first);
                second = __smlatb(near, taps.left[row], second);
                second = __smlad(far, taps.right[row], second);
            }
            sums[0] = first;
            sums[1] = second;
        }
        return;
    }
    for (; count > 0; count--, from += stride) {
        int32_t sum = bias;
        for (int32_t row = 0; row < 3; row++) {
            sum = __smlad(el_word_at(from + row * PITCH), taps.left[row], sum);
            sum = __smlabt(from[row * PITCH + 2], taps.right[row], sum);
        }
        *sums++ = sum;
    }
}

static void convolve_tile(const struct el_depthwise_conv2d *layer, const int16_t *tile, int32_t channel,
                          struct stretch rows, struct stretch columns, int8_t *output)
{
    const int32_t channels = layer->output.channels;
    const struct taps taps = taps_of(layer->weights + channel, channels);
    const int32_t bias = layer->bias[channel];
    int32_t sums[SUMS + 2];

    for (int32_t row = 0; row < rows.outputs; row++) {
        const int16_t *const from = tile + row * layer->window.stride_height * PITCH;
        int8_t *const to = output + ((rows.output + row) * layer->output.width + columns.output) * channels + channel;
        sum_row(from, taps, bias, layer->window.stride_width, columns.outputs, sums);
        el_requantise_channel(&layer->requantisation, channel, sums, columns.outputs, to, channels);
    }
}

void el_depthwise_conv2d_3x3(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output)
{
    const struct el_window *const window = &layer->window;
    int16_t tile[TILE_ROWS * PITCH] EL_ALIGNED;

    for (int32_t y = 0; y < layer->output.height;) {
        const struct stretch rows =
            stretch_from(y, layer->output.height, window->stride_height, window->pad_top, TILE_ROWS);
        for (int32_t x = 0; x < layer->output.width;) {
            const struct stretch columns =
                stretch_from(x, layer->output.width, window->stride_width, window->pad_left, TILE_COLUMNS);
            for (int32_t channel = 0; channel < layer->output.channels; channel++) {
                load_tile(layer, input + channel / layer->depth_multiplier, rows, columns, tile);
                convolve_tile(layer, tile, channel, rows, columns, output);
            }
            x += columns.outputs;
        }
        y += rows.outputs;
    }
}

#else

void el_depthwise_conv2d_3x3(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output)
{
    el_depthwise_conv2d(layer, input, output);
}

#endif
