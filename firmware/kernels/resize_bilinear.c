#include "edgeloop_kernels.h"

/* Of four pixels, with weights of 10 fractional bits along each axis; ties go away from zero. */
static int8_t between(const int8_t *const corners[4], const int32_t weights[4], int32_t channel)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < 4; i++) {
        sum += corners[i][channel] * weights[i];
    }
    return (int8_t)((sum + (sum > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
}

void el_resize_bilinear(const struct el_resize_bilinear *layer, const int8_t *input, int8_t *output)
{
    const int32_t one = 1 << 10;
    const int32_t row_bytes = layer->input_width * layer->channels;

    for (int32_t y = 0; y < layer->output_height; y++) {
        const int8_t *const upper = input + layer->rows[3 * y] * row_bytes;
        const int8_t *const lower = input + layer->rows[3 * y + 1] * row_bytes;
        const int32_t down = layer->rows[3 * y + 2];
        for (int32_t x = 0; x < layer->output_width; x++) {
            const int32_t left = layer->columns[3 * x] * layer->channels;
            const int32_t right = layer->columns[3 * x + 1] * layer->channels;
            const int32_t along = layer->columns[3 * x + 2];
            const int8_t *const corners[4] = {upper + left, lower + left, upper + right, lower + right};
            const int32_t weights[4] = {(one - down) * (one - along), down * (one - along), (one - down) * along,
                                        down * along};
            for (int32_t channel = 0; channel < layer->channels; channel++) {
                *output++ = between(corners, weights, channel);
            }
        }
    }
}
