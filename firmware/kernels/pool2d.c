#include "edgeloop_kernels.h"
#include "fixed_point.h"

/* What a window sees of one channel: padding is not among it. */
struct seen {
    int32_t count;
    int32_t sum;
    int32_t largest;
};

/* Inlined into both kinds of pooling, each of which leaves out what it does not ask for. */
__attribute__((always_inline)) static inline struct seen see(const struct el_pool2d *layer, const int8_t *channel,
                                                             int32_t top, int32_t left)
{
    struct seen seen = {0, 0, INT8_MIN};
    for (int32_t y = top; y < top + layer->window.height; y++) {
        if (!el_lies_inside(y, layer->input.height)) {
            continue;
        }
        for (int32_t x = left; x < left + layer->window.width; x++) {
            if (el_lies_inside(x, layer->input.width)) {
                const int32_t value = channel[(y * layer->input.width + x) * layer->input.channels];
                seen.count++;
                seen.sum += value;
                seen.largest = value > seen.largest ? value : seen.largest;
            }
        }
    }
    return seen;
}

/* Halves are rounded away from zero. */
static inline int32_t average_of(struct seen seen)
{
    const int32_t half = seen.count >> 1;
    return (seen.sum > 0 ? seen.sum + half : seen.sum - half) / seen.count;
}

static inline int32_t largest_of(struct seen seen)
{
    return seen.largest;
}

__attribute__((always_inline)) static inline void pool(const struct el_pool2d *layer, const int8_t *input,
                                                       int8_t *output, int32_t (*result)(struct seen))
{
    for (int32_t y = 0; y < layer->output.height; y++) {
        for (int32_t x = 0; x < layer->output.width; x++) {
            const int32_t top = y * layer->window.stride_height - layer->window.pad_top;
            const int32_t left = x * layer->window.stride_width - layer->window.pad_left;
            for (int32_t channel = 0; channel < layer->input.channels; channel++) {
                const int32_t value = result(see(layer, input + channel, top, left));
                *output++ = (int8_t)el_clamp(value, layer->minimum, layer->maximum);
            }
        }
    }
}

EL_SMALL void el_average_pool2d(const struct el_pool2d *layer, const int8_t *input, int8_t *output)
{
    pool(layer, input, output, average_of);
}

EL_SMALL void el_max_pool2d(const struct el_pool2d *layer, const int8_t *input, int8_t *output)
{
    pool(layer, input, output, largest_of);
}
