#include "edgeloop_kernels.h"
#include "fixed_point.h"
#include "memory.h"

/* What a filter makes of the newest frame. */
static int32_t feature(const struct el_svdf *layer, int32_t filter, const int8_t *input)
{
    const int8_t *weights = layer->feature_weights + filter * layer->depth;
    int32_t sum = layer->feature_bias[filter];
    for (int32_t i = 0; i < layer->depth; i++) {
        sum += weights[i] * input[i];
    }
    return el_scale(sum, layer->to_state.multiplier, layer->to_state.shift);
}

static int8_t unit_output(const struct el_svdf *layer, int32_t unit, int32_t sum)
{
    const int32_t value = el_scale(layer->bias[unit] + sum, layer->to_output.multiplier, layer->to_output.shift);
    return (int8_t)el_clamp(value + layer->output_zero_point, INT8_MIN, INT8_MAX);
}

void el_svdf_int8(const struct el_svdf *layer, const int8_t *input, int8_t *output, int8_t *state)
{
    const int8_t *weights = layer->time_weights_int8;
    for (int32_t unit = 0; unit < layer->units; unit++) {
        int32_t sum = 0;
        for (int32_t rank = 0; rank < layer->rank; rank++) {
            for (int32_t i = 0; i + 1 < layer->memory; i++) {
                state[i] = state[i + 1];
            }
            state[layer->memory - 1] =
                (int8_t)el_clamp(feature(layer, unit * layer->rank + rank, input), INT8_MIN, INT8_MAX);
            for (int32_t i = 0; i < layer->memory; i++) {
                sum += *weights++ * *state++;
            }
        }
        output[unit] = unit_output(layer, unit, sum);
    }
}

void el_svdf_int16(const struct el_svdf *layer, const int8_t *input, int8_t *output, int8_t *state)
{
    el_int16 *frames = (el_int16 *)state;
    const int16_t *weights = layer->time_weights_int16;
    for (int32_t unit = 0; unit < layer->units; unit++) {
        int32_t sum = 0;
        for (int32_t rank = 0; rank < layer->rank; rank++) {
            for (int32_t i = 0; i + 1 < layer->memory; i++) {
                frames[i] = frames[i + 1];
            }
            frames[layer->memory - 1] =
                (int16_t)el_clamp(feature(layer, unit * layer->rank + rank, input), INT16_MIN, INT16_MAX);
            for (int32_t i = 0; i < layer->memory; i++) {
                /* Sums may pass int32, as they do in the reference: unsigned, so that they wrap. */
                sum = (int32_t)((uint32_t)sum + (uint32_t)(*weights++ * *frames++));
            }
        }
        output[unit] = unit_output(layer, unit, sum);
    }
}
