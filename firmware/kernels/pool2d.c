#include "edgeloop_kernels.h"
#include "fixed_point.h"

struct area {
    int32_t top;
    int32_t bottom;
    int32_t left;
    int32_t right;
};

static int32_t not_below(int32_t x, int32_t limit)
{
    return x < limit ? limit : x;
}

static int32_t not_above(int32_t x, int32_t limit)
{
    return x > limit ? limit : x;
}

EL_SMALL static struct area area_of(const struct el_pool2d *layer, int32_t y, int32_t x)
{
    const struct el_window *window = &layer->window;
    const int32_t top = y * window->stride_height - window->pad_top;
    const int32_t left = x * window->stride_width - window->pad_left;
    const struct area area = {
        not_below(top, 0),
        not_above(top + window->height, layer->input.height),
        not_below(left, 0),
        not_above(left + window->width, layer->input.width),
    };
    return area;
}

/* Padding counts neither in the sum nor in the number of values; halves are rounded away from zero. */
EL_SMALL void el_average_pool2d(const struct el_pool2d *layer, const int8_t *input, int8_t *output)
{
    const int32_t channels = layer->input.channels;

    for (int32_t y = 0; y < layer->output.height; y++) {
        for (int32_t x = 0; x < layer->output.width; x++) {
            const struct area area = area_of(layer, y, x);
            const int32_t count = (area.bottom - area.top) * (area.right - area.left);
            for (int32_t channel = 0; channel < channels; channel++) {
                int32_t sum = 0;
                for (int32_t in_y = area.top; in_y < area.bottom; in_y++) {
                    const int8_t *from = input + (in_y * layer->input.width + area.left) * channels + channel;
                    for (int32_t in_x = area.left; in_x < area.right; in_x++, from += channels) {
                        sum += *from;
                    }
                }
                sum = sum > 0 ? (sum + count / 2) / count : (sum - count / 2) / count;
                *output++ = (int8_t)el_clamp(sum, layer->minimum, layer->maximum);
            }
        }
    }
}

EL_SMALL void el_max_pool2d(const struct el_pool2d *layer, const int8_t *input, int8_t *output)
{
    const int32_t channels = layer->input.channels;

    for (int32_t y = 0; y < layer->output.height; y++) {
        for (int32_t x = 0; x < layer->output.width; x++) {
            const struct area area = area_of(layer, y, x);
            for (int32_t channel = 0; channel < channels; channel++) {
                int32_t largest = INT8_MIN;
                for (int32_t in_y = area.top; in_y < area.bottom; in_y++) {
                    const int8_t *from = input + (in_y * layer->input.width + area.left) * channels + channel;
                    for (int32_t in_x = area.left; in_x < area.right; in_x++, from += channels) {
                        largest = not_below(*from, largest);
                    }
                }
                *output++ = (int8_t)el_clamp(largest, layer->minimum, layer->maximum);
            }
        }
    }
}
