#include "requantise.h"
#include "span.h"

/* Channels that are summed side by side, so that one walk over the window serves all of them. */
#define BLOCK 4

/* First input value and first weight that a window at these spans reads, both of channel 0. */
struct corner {
    const int8_t *input;
    const int8_t *weights;
    int32_t row_bytes;
    int32_t column_bytes;
};

static struct corner corner_at(const struct el_depthwise_conv2d *layer, const int8_t *input, struct span rows,
                               struct span columns)
{
    const struct el_window *window = &layer->window;
    const int32_t channels = layer->input.channels;
    const int32_t y = rows.start + rows.first * window->dilation_height;
    const int32_t x = columns.start + columns.first * window->dilation_width;
    const struct corner corner = {
        input + (y * layer->input.width + x) * channels,
        layer->weights + (rows.first * window->width + columns.first) * layer->output.channels,
        window->dilation_height * layer->input.width * channels,
        window->dilation_width * channels,
    };
    return corner;
}

/* depth_multiplier is 1: neighbouring output channels read neighbouring input channels. */
static void sum_block(const struct el_depthwise_conv2d *layer, const struct corner *corner, struct span rows,
                      struct span columns, int32_t channel, int32_t *sums)
{
    const int32_t channels = layer->output.channels;
    const int32_t zero_point = layer->input_zero_point;
    int32_t sum0 = el_bias(&layer->requantisation, channel);
    int32_t sum1 = el_bias(&layer->requantisation, channel + 1);
    int32_t sum2 = el_bias(&layer->requantisation, channel + 2);
    int32_t sum3 = el_bias(&layer->requantisation, channel + 3);

    for (int32_t y = 0; y < rows.last - rows.first; y++) {
        const int8_t *from = corner->input + channel + y * corner->row_bytes;
        const int8_t *weights = corner->weights + channel + y * layer->window.width * channels;
        for (int32_t x = columns.first; x < columns.last; x++) {
            sum0 += (from[0] - zero_point) * weights[0];
            sum1 += (from[1] - zero_point) * weights[1];
            sum2 += (from[2] - zero_point) * weights[2];
            sum3 += (from[3] - zero_point) * weights[3];
            from += corner->column_bytes;
            weights += channels;
        }
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

static void sum_channel(const struct el_depthwise_conv2d *layer, const struct corner *corner, struct span rows,
                        struct span columns, int32_t channel, int32_t *sums)
{
    const int32_t channels = layer->output.channels;
    const int32_t in_channel = channel / layer->depth_multiplier;
    sums[0] = el_bias(&layer->requantisation, channel);
    for (int32_t y = 0; y < rows.last - rows.first; y++) {
        const int8_t *from = corner->input + in_channel + y * corner->row_bytes;
        const int8_t *weights = corner->weights + channel + y * layer->window.width * channels;
        for (int32_t x = columns.first; x < columns.last; x++) {
            sums[0] += (*from - layer->input_zero_point) * *weights;
            from += corner->column_bytes;
            weights += channels;
        }
    }
}

static void pixel(const struct el_depthwise_conv2d *layer, const int8_t *input, struct span rows, struct span columns,
                  int8_t *output)
{
    const struct corner corner = corner_at(layer, input, rows, columns);
    const int32_t channels = layer->output.channels;
    const int32_t blocked = layer->depth_multiplier == 1 ? channels / BLOCK * BLOCK : 0;
    int32_t channel = 0;

    while (channel < channels) {
        int32_t sums[BLOCK];
        int32_t count = 1;
        if (channel < blocked) {
            count = BLOCK;
            sum_block(layer, &corner, rows, columns, channel, sums);
        } else {
            sum_channel(layer, &corner, rows, columns, channel, sums);
        }
        for (int32_t k = 0; k < count; k++, channel++) {
            output[channel] = el_requantise(&layer->requantisation, channel, sums[k]);
        }
    }
}

void el_depthwise_conv2d(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output)
{
    const struct el_window *window = &layer->window;

    for (int32_t y = 0; y < layer->output.height; y++) {
        const int32_t top = y * window->stride_height - window->pad_top;
        const struct span rows = span_at(top, window->height, window->dilation_height, layer->input.height);
        for (int32_t x = 0; x < layer->output.width; x++) {
            const int32_t left = x * window->stride_width - window->pad_left;
            const struct span columns = span_at(left, window->width, window->dilation_width, layer->input.width);
            pixel(layer, input, rows, columns, output);
            output += layer->output.channels;
        }
    }
}
