#include "edgeloop_kernels.h"
#include "fixed_point.h"

void el_mean(const struct el_reduce *layer, const int8_t *input, int8_t *output)
{
    for (int32_t outer = 0; outer < layer->outer; outer++) {
        for (int32_t inner = 0; inner < layer->inner; inner++) {
            const int8_t *from = input + inner;
            int32_t sum = -layer->input_zero_point * layer->reduced;
            for (int32_t i = 0; i < layer->reduced; i++, from += layer->inner) {
                sum += *from;
            }
            sum = el_scale(sum, layer->multiplier, layer->shift) + layer->output_zero_point;
            *output++ = (int8_t)el_clamp(sum, INT8_MIN, INT8_MAX);
        }
        input += layer->reduced * layer->inner;
    }
}

void el_reduce_max(const struct el_reduce *layer, const int8_t *input, int8_t *output)
{
    for (int32_t outer = 0; outer < layer->outer; outer++) {
        for (int32_t inner = 0; inner < layer->inner; inner++) {
            const int8_t *from = input + inner;
            int8_t largest = INT8_MIN;
            for (int32_t i = 0; i < layer->reduced; i++, from += layer->inner) {
                largest = *from > largest ? *from : largest;
            }
            *output++ = largest;
        }
        input += layer->reduced * layer->inner;
    }
}
