#include "dot.h"
#include "requantise.h"

void el_fully_connected(const struct el_fully_connected *layer, const int8_t *input, int8_t *output)
{
    for (int32_t row = 0; row < layer->rows; row++) {
        const int8_t *weights = layer->weights;
        int32_t unit = 0;
        for (; unit + EL_CHANNELS <= layer->units; unit += EL_CHANNELS) {
            int32_t sums[EL_CHANNELS];
            for (int32_t k = 0; k < EL_CHANNELS; k++) {
                sums[k] = layer->bias[unit + k];
            }
            el_dot_channels(input, weights, layer->depth, layer->depth, sums);
            for (int32_t k = 0; k < EL_CHANNELS; k++) {
                output[unit + k] = el_requantise(&layer->requantisation, unit + k, sums[k]);
            }
            weights += EL_CHANNELS * layer->depth;
        }
        for (; unit < layer->units; unit++) {
            const int32_t sum = layer->bias[unit] + el_dot(input, weights, layer->depth);
            output[unit] = el_requantise(&layer->requantisation, unit, sum);
            weights += layer->depth;
        }
        input += layer->depth;
        output += layer->units;
    }
}
