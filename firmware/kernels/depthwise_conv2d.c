#include "requantise.h"

/* Channels that are summed side by side, so that one walk over the window serves all of them. */
#define BLOCK 4

struct tap_walk {
    int32_t top;
    int32_t left;
};

static int32_t sum_channel(const struct el_depthwise_conv2d *layer, const int8_t *input, struct tap_walk at,
                           int32_t channel)
{
    const struct el_window *window = &layer->window;
    const int32_t in_channel = channel / layer->depth_multiplier;
    const int8_t *weights = layer->weights + channel;
    int32_t sum = layer->bias[channel];

    for (int32_t y = 0; y < window->height; y++) {
        const int32_t in_y = at.top + y * window->dilation_height;
        for (int32_t x = 0; x < window->width; x++, weights += layer->output.channels) {
            const int32_t in_x = at.left + x * window->dilation_width;
            const int32_t outside = in_y < 0 || in_y >= layer->input.height || in_x < 0 || in_x >= layer->input.width;
            const int32_t value =
                outside ? layer->input_zero_point
                        : input[(in_y * layer->input.width + in_x) * layer->input.channels + in_channel];
            sum += value * *weights;
        }
    }
    return sum;
}

/* depth_multiplier is 1: neighbouring output channels read neighbouring input channels. */
static void sum_block(const struct el_depthwise_conv2d *layer, const int8_t *input, struct tap_walk at, int32_t channel,
                      int32_t *sums)
{
    const struct el_window *window = &layer->window;
    const int32_t channels = layer->input.channels;
    const int32_t zero = layer->input_zero_point;
    const int8_t *weights = layer->weights + channel;
    int32_t sum0 = layer->bias[channel];
    int32_t sum1 = layer->bias[channel + 1];
    int32_t sum2 = layer->bias[channel + 2];
    int32_t sum3 = layer->bias[channel + 3];

    for (int32_t y = 0; y < window->height; y++) {
        const int32_t in_y = at.top + y * window->dilation_height;
        const int32_t row_outside = in_y < 0 || in_y >= layer->input.height;
        const int8_t *from = input + (in_y * layer->input.width + at.left) * channels + channel;
        for (int32_t x = 0; x < window->width; x++) {
            const int32_t in_x = at.left + x * window->dilation_width;
            if (row_outside || in_x < 0 || in_x >= layer->input.width) {
                sum0 += zero * weights[0];
                sum1 += zero * weights[1];
                sum2 += zero * weights[2];
                sum3 += zero * weights[3];
            } else {
                sum0 += from[0] * weights[0];
                sum1 += from[1] * weights[1];
                sum2 += from[2] * weights[2];
                sum3 += from[3] * weights[3];
            }
            from += window->dilation_width * channels;
            weights += channels;
        }
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

void el_depthwise_conv2d(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output)
{
    const int32_t channels = layer->output.channels;
    const int32_t blocked = layer->depth_multiplier == 1 ? channels / BLOCK * BLOCK : 0;

    for (int32_t y = 0; y < layer->output.height; y++) {
        for (int32_t x = 0; x < layer->output.width; x++) {
            const struct tap_walk at = {
                y * layer->window.stride_height - layer->window.pad_top,
                x * layer->window.stride_width - layer->window.pad_left,
            };
            int32_t channel = 0;
            for (; channel < blocked; channel += BLOCK) {
                int32_t sums[BLOCK];
                sum_block(layer, input, at, channel, sums);
                for (int32_t k = 0; k < BLOCK; k++) {
                    output[channel + k] = el_requantise(&layer->requantisation, channel + k, sums[k]);
                }
            }
            for (; channel < channels; channel++) {
                output[channel] =
                    el_requantise(&layer->requantisation, channel, sum_channel(layer, input, at, channel));
            }
            output += channels;
        }
    }
}
