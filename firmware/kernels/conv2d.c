#include "dot.h"
#include "requantise.h"
#include "span.h"

/* The sum of those weights of one filter that meet padding. */
static int32_t weights_on_padding(const struct el_conv2d *layer, const int8_t *filter, struct span rows,
                                  struct span columns)
{
    const int32_t depth = layer->input.channels;
    const int32_t before = columns.first * depth;
    const int32_t after = (layer->window.width - columns.last) * depth;
    const int32_t run = layer->window.width * depth;
    int32_t sum = 0;
    for (int32_t y = 0; y < layer->window.height; y++, filter += run) {
        if (y < rows.first || y >= rows.last) {
            sum += el_sum(filter, run);
        } else {
            sum += el_sum(filter, before) + el_sum(filter + run - after, after);
        }
    }
    return sum;
}

/* The usual case, one group and neighbouring columns: what a kernel row reads of the input is one stretch of bytes. */
static void plain_pixel(const struct el_conv2d *layer, const int8_t *input, struct span rows, struct span columns,
                        int8_t *output)
{
    const int32_t depth = layer->input.channels;
    const int32_t run = layer->window.width * depth;
    const int32_t filter = layer->window.height * run;
    const int32_t row_bytes = layer->window.dilation_height * layer->input.width * depth;
    const int32_t read = (columns.last - columns.first) * depth;
    const int32_t offset = rows.first * run + columns.first * depth;
    const int8_t *const corner = input + (rows.start * layer->input.width + columns.start + columns.first) * depth +
                                 rows.first * row_bytes;
    const int32_t padded = rows.last - rows.first < layer->window.height || read < run;
    const int8_t *weights = layer->weights;
    int32_t channel = 0;

    while (channel < layer->output.channels) {
        int32_t sums[EL_CHANNELS];
        int32_t count = EL_CHANNELS;
        const int8_t *from = corner;
        const int8_t *row = weights + offset;
        if (channel + EL_CHANNELS <= layer->output.channels) {
            for (int32_t k = 0; k < EL_CHANNELS; k++) {
                sums[k] = layer->bias[channel + k];
            }
            for (int32_t y = rows.first; y < rows.last; y++, row += run, from += row_bytes) {
                el_dot_channels(from, row, filter, read, sums);
            }
        } else {
            count = 1;
            sums[0] = layer->bias[channel];
            for (int32_t y = rows.first; y < rows.last; y++, row += run, from += row_bytes) {
                sums[0] += el_dot(from, row, read);
            }
        }
        for (int32_t k = 0; k < count; k++, channel++, weights += filter) {
            if (padded) {
                sums[k] += layer->input_zero_point * weights_on_padding(layer, weights, rows, columns);
            }
            output[channel] = el_requantise(&layer->requantisation, channel, sums[k]);
        }
    }
}

/* Dilated columns and groups: tap by tap. */
static void any_pixel(const struct el_conv2d *layer, const int8_t *input, struct span rows, struct span columns,
                      int8_t *output)
{
    const struct el_window *window = &layer->window;
    const int32_t depth = layer->input.channels / layer->groups;
    const int32_t group_size = layer->output.channels / layer->groups;
    const int8_t *weights = layer->weights;

    for (int32_t channel = 0; channel < layer->output.channels; channel++) {
        const int32_t first_input = channel / group_size * depth;
        int32_t sum = layer->bias[channel];
        for (int32_t y = 0; y < window->height; y++) {
            const int32_t in_y = rows.start + y * window->dilation_height;
            for (int32_t x = 0; x < window->width; x++, weights += depth) {
                if (y < rows.first || y >= rows.last || x < columns.first || x >= columns.last) {
                    sum += layer->input_zero_point * el_sum(weights, depth);
                    continue;
                }
                const int32_t in_x = columns.start + x * window->dilation_width;
                const int8_t *from = input + (in_y * layer->input.width + in_x) * layer->input.channels + first_input;
                sum += el_dot(from, weights, depth);
            }
        }
        output[channel] = el_requantise(&layer->requantisation, channel, sum);
    }
}

void el_conv2d(const struct el_conv2d *layer, const int8_t *input, int8_t *output)
{
    const struct el_window *window = &layer->window;
    const int32_t plain = layer->groups == 1 && (window->dilation_width == 1 || window->width == 1);

    for (int32_t y = 0; y < layer->output.height; y++) {
        const int32_t top = y * window->stride_height - window->pad_top;
        const struct span rows = span_at(top, window->height, window->dilation_height, layer->input.height);
        for (int32_t x = 0; x < layer->output.width; x++) {
            const int32_t left = x * window->stride_width - window->pad_left;
            const struct span columns = span_at(left, window->width, window->dilation_width, layer->input.width);
            if (plain) {
                plain_pixel(layer, input, rows, columns, output);
            } else {
                any_pixel(layer, input, rows, columns, output);
            }
            output += layer->output.channels;
        }
    }
}
