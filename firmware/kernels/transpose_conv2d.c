#include "edgeloop_kernels.h"
#include "requantise.h"

/* The input's row or column that a tap reads, -1 for none: an input reaches every `stride`-th output. */
static int32_t source_of(int32_t at, int32_t tap, int32_t stride, int32_t limit)
{
    const int32_t distance = at - tap;
    if (distance < 0 || distance % stride != 0 || distance / stride >= limit) {
        return -1;
    }
    return distance / stride;
}

static int32_t sum_of(const struct el_transpose_conv2d *layer, const int8_t *input, int32_t y, int32_t x, int32_t channel)
{
    const struct el_window *window = &layer->window;
    const int32_t depth = layer->input.channels;
    const int8_t *weights = layer->weights + channel * window->height * window->width * depth;
    int32_t sum = el_bias(&layer->requantisation, channel);

    for (int32_t row = 0; row < window->height; row++) {
        const int32_t in_y = source_of(y + window->pad_top, row, window->stride_height, layer->input.height);
        for (int32_t column = 0; column < window->width; column++, weights += depth) {
            const int32_t in_x = source_of(x + window->pad_left, column, window->stride_width, layer->input.width);
            if (in_y < 0 || in_x < 0) {
                continue;
            }
            const int8_t *from = input + (in_y * layer->input.width + in_x) * depth;
            for (int32_t k = 0; k < depth; k++) {
                sum += (from[k] - layer->input_zero_point) * weights[k];
            }
        }
    }
    return sum;
}

void el_transpose_conv2d(const struct el_transpose_conv2d *layer, const int8_t *input, int8_t *output)
{
    for (int32_t y = 0; y < layer->output.height; y++) {
        for (int32_t x = 0; x < layer->output.width; x++) {
            for (int32_t channel = 0; channel < layer->output.channels; channel++) {
                const int32_t sum = sum_of(layer, input, y, x, channel);
                *output++ = el_requantise(&layer->requantisation, channel, sum);
            }
        }
    }
}
