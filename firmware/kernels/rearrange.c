#include "edgeloop_kernels.h"

void el_copy(int8_t *to, const int8_t *from, int32_t bytes)
{
    for (int32_t i = 0; i < bytes; i++) {
        to[i] = from[i];
    }
}

void el_set(int8_t *to, int8_t value, int32_t bytes)
{
    for (int32_t i = 0; i < bytes; i++) {
        to[i] = value;
    }
}

static void loop(const struct el_rearrange *layer, int32_t depth, const int8_t *from, int8_t *to)
{
    if (depth == EL_REARRANGE_LOOPS) {
        el_copy(to, from, layer->run_bytes);
        return;
    }
    for (int32_t i = 0; i < layer->count[depth]; i++) {
        loop(layer, depth + 1, from, to);
        from += layer->read_stride[depth];
        to += layer->write_stride[depth];
    }
}

void el_rearrange(const struct el_rearrange *layer, const int8_t *input, int8_t *output)
{
    loop(layer, 0, input + layer->read_first, output + layer->write_first);
}

void el_resize_nearest(const struct el_resize_nearest *layer, const int8_t *input, int8_t *output)
{
    for (int32_t y = 0; y < layer->output_height; y++) {
        const int8_t *row = input + layer->rows[y] * layer->input_width * layer->channels;
        for (int32_t x = 0; x < layer->output_width; x++) {
            el_copy(output, row + layer->columns[x] * layer->channels, layer->channels);
            output += layer->channels;
        }
    }
}
