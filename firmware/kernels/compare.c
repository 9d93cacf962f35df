#include "edgeloop_kernels.h"
#include "fixed_point.h"
#include "memory.h"

void el_prelu(const struct el_prelu *layer, const int8_t *input, const int8_t *slope, int8_t *output)
{
    int32_t at = 0;

    for (int32_t i = 0; i < layer->size; i++) {
        const int32_t value = input[i] + layer->input_offset;
        const int32_t scaled =
            value >= 0 ? el_scale(value, layer->multiplier_above, layer->shift_above)
                       : el_scale(value * (slope[at] + layer->slope_offset), layer->multiplier_below, layer->shift_below);
        output[i] = (int8_t)el_clamp(scaled + layer->output_offset, INT8_MIN, INT8_MAX);
        at = at + 1 == layer->slope_size ? 0 : at + 1;
    }
}

static void extremum(const struct el_extremum *layer, const int8_t *a, const int8_t *b, int8_t *output, int32_t sign)
{
    int32_t at_a = 0;
    int32_t at_b = 0;

    for (int32_t i = 0; i < layer->size; i++) {
        output[i] = sign * a[at_a] >= sign * b[at_b] ? a[at_a] : b[at_b];
        at_a = at_a + 1 == layer->a_size ? 0 : at_a + 1;
        at_b = at_b + 1 == layer->b_size ? 0 : at_b + 1;
    }
}

void el_maximum(const struct el_extremum *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    extremum(layer, a, b, output, 1);
}

void el_minimum(const struct el_extremum *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    extremum(layer, a, b, output, -1);
}

void el_reduce_min(const struct el_reduce *layer, const int8_t *input, int8_t *output)
{
    for (int32_t outer = 0; outer < layer->outer; outer++) {
        for (int32_t inner = 0; inner < layer->inner; inner++) {
            const int8_t *from = input + inner;
            int8_t smallest = INT8_MAX;
            for (int32_t i = 0; i < layer->reduced; i++, from += layer->inner) {
                smallest = *from < smallest ? *from : smallest;
            }
            *output++ = smallest;
        }
        input += layer->reduced * layer->inner;
    }
}

static void arg_extremum(const struct el_arg_extremum *layer, const int8_t *input, int8_t *output, int32_t sign)
{
    el_int32 *to = (el_int32 *)output;

    for (int32_t outer = 0; outer < layer->outer; outer++) {
        for (int32_t inner = 0; inner < layer->inner; inner++) {
            const int8_t *from = input + inner;
            int32_t best = 0;
            for (int32_t i = 1; i < layer->length; i++) {
                if (sign * from[i * layer->inner] > sign * from[best * layer->inner]) {
                    best = i;
                }
            }
            *to++ = best;
        }
        input += layer->length * layer->inner;
    }
}

void el_arg_max(const struct el_arg_extremum *layer, const int8_t *input, int8_t *output)
{
    arg_extremum(layer, input, output, 1);
}

void el_arg_min(const struct el_arg_extremum *layer, const int8_t *input, int8_t *output)
{
    arg_extremum(layer, input, output, -1);
}
