#include "dot.h"
#include "requantise.h"

/* Where a window meets the input: kernel rows and columns [first, last) read it, the others read padding. */
struct span {
    int32_t first;
    int32_t last;
};

static struct span inside(int32_t start, int32_t count, int32_t dilation, int32_t limit)
{
    struct span span = {0, count};
    while (span.first < count && start + span.first * dilation < 0) {
        span.first++;
    }
    while (span.last > span.first && start + (span.last - 1) * dilation >= limit) {
        span.last--;
    }
    return span;
}

/* The usual case: one group, neighbouring columns, and the window wholly inside. A kernel row is one inner product. */
static void inside_pixel(const struct el_conv2d *layer, const int8_t *corner, int8_t *output)
{
    const int32_t run = layer->window.width * layer->input.channels;
    const int32_t filter = layer->window.height * run;
    const int32_t row = layer->window.dilation_height * layer->input.width * layer->input.channels;
    const int8_t *weights = layer->weights;
    int32_t channel = 0;

    for (; channel + EL_CHANNELS <= layer->output.channels; channel += EL_CHANNELS) {
        int32_t sums[EL_CHANNELS];
        for (int32_t k = 0; k < EL_CHANNELS; k++) {
            sums[k] = layer->bias[channel + k];
        }
        for (int32_t y = 0; y < layer->window.height; y++) {
            el_dot_channels(corner + y * row, weights + y * run, filter, run, sums);
        }
        for (int32_t k = 0; k < EL_CHANNELS; k++) {
            output[channel + k] = el_requantise(&layer->requantisation, channel + k, sums[k]);
        }
        weights += EL_CHANNELS * filter;
    }
    for (; channel < layer->output.channels; channel++) {
        int32_t sum = layer->bias[channel];
        for (int32_t y = 0; y < layer->window.height; y++) {
            sum += el_dot(corner + y * row, weights + y * run, run);
        }
        output[channel] = el_requantise(&layer->requantisation, channel, sum);
        weights += filter;
    }
}

/* Borders, dilated columns and groups: tap by tap. */
static void any_pixel(const struct el_conv2d *layer, const int8_t *input, int32_t top, int32_t left, int8_t *output)
{
    const struct el_window *window = &layer->window;
    const struct span rows = inside(top, window->height, window->dilation_height, layer->input.height);
    const struct span columns = inside(left, window->width, window->dilation_width, layer->input.width);
    const int32_t depth = layer->input.channels / layer->groups;
    const int32_t group_size = layer->output.channels / layer->groups;
    const int8_t *weights = layer->weights;

    for (int32_t channel = 0; channel < layer->output.channels; channel++) {
        const int32_t first_input = channel / group_size * depth;
        int32_t sum = layer->bias[channel];
        for (int32_t y = 0; y < window->height; y++) {
            const int32_t in_y = top + y * window->dilation_height;
            for (int32_t x = 0; x < window->width; x++, weights += depth) {
                if (y < rows.first || y >= rows.last || x < columns.first || x >= columns.last) {
                    sum += layer->input_zero_point * el_sum(weights, depth);
                    continue;
                }
                const int32_t in_x = left + x * window->dilation_width;
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
    const int32_t reach_y = (window->height - 1) * window->dilation_height;
    const int32_t reach_x = (window->width - 1) * window->dilation_width;
    const int32_t plain = layer->groups == 1 && (window->dilation_width == 1 || window->width == 1);

    for (int32_t y = 0; y < layer->output.height; y++) {
        const int32_t top = y * window->stride_height - window->pad_top;
        const int32_t rows_inside = top >= 0 && top + reach_y < layer->input.height;
        for (int32_t x = 0; x < layer->output.width; x++) {
            const int32_t left = x * window->stride_width - window->pad_left;
            if (plain && rows_inside && left >= 0 && left + reach_x < layer->input.width) {
                inside_pixel(layer, input + (top * layer->input.width + left) * layer->input.channels, output);
            } else {
                any_pixel(layer, input, top, left, output);
            }
            output += layer->output.channels;
        }
    }
}
