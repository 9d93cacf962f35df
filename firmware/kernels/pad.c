#include "edgeloop_kernels.h"

static int32_t within(int32_t at, int32_t before, int32_t size)
{
    return at >= before && at < before + size;
}

void el_pad(const struct el_pad *layer, const int8_t *input, int8_t *output)
{
    for (int32_t n = 0; n < layer->output[0]; n++) {
        const int32_t in_n = within(n, layer->before[0], layer->input[0]);
        for (int32_t y = 0; y < layer->output[1]; y++) {
            const int32_t in_y = in_n && within(y, layer->before[1], layer->input[1]);
            for (int32_t x = 0; x < layer->output[2]; x++) {
                const int32_t in_x = in_y && within(x, layer->before[2], layer->input[2]);
                for (int32_t c = 0; c < layer->output[3]; c++) {
                    const int32_t copied = in_x && within(c, layer->before[3], layer->input[3]);
                    *output++ = copied ? *input++ : (int8_t)layer->value;
                }
            }
        }
    }
}
