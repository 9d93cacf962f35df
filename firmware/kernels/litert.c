/* Operators that LiteRT computes by other steps than TensorFlow Lite for Microcontrollers. */
#include "edgeloop_kernels.h"
#include "fixed_point.h"
#include "memory.h"
#include "nearest.h"

static int32_t next(int32_t at, int32_t size)
{
    return at + 1 == size ? 0 : at + 1;
}

void el_litert_add(const struct el_litert_add *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    int32_t at_a = 0;
    int32_t at_b = 0;

    for (int32_t i = 0; i < layer->size; i++) {
        const int32_t sum = layer->bias + a[at_a] * layer->a.multiplier + b[at_b] * layer->b.multiplier;
        const int32_t scaled = (sum >> layer->shift) + layer->output_zero_point;
        output[i] = (int8_t)el_clamp(scaled, layer->minimum, layer->maximum);
        at_a = next(at_a, layer->a.size);
        at_b = next(at_b, layer->b.size);
    }
}

void el_litert_mul(const struct el_litert_mul *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    int32_t at_a = 0;
    int32_t at_b = 0;

    for (int32_t i = 0; i < layer->size; i++) {
        const int32_t product = (a[at_a] - layer->a.zero_point) * (b[at_b] - layer->b.zero_point);
        /* Below 2^24: 17 bits of product, and scales below 256. */
        const int32_t scaled = el_nearest((float)product * layer->scale) + layer->output_zero_point;
        output[i] = (int8_t)el_clamp(scaled, layer->minimum, layer->maximum);
        at_a = next(at_a, layer->a.size);
        at_b = next(at_b, layer->b.size);
    }
}

void el_litert_mean(const struct el_litert_mean *layer, const int8_t *input, int8_t *output)
{
    for (int32_t outer = 0; outer < layer->outer; outer++) {
        for (int32_t inner = 0; inner < layer->inner; inner++) {
            const int8_t *from = input + inner;
            int32_t sum = 0;
            for (int32_t i = 0; i < layer->reduced; i++, from += layer->inner) {
                sum += *from;
            }
            /* volatile: a compiler that fuses product and sum would round once where LiteRT rounds twice. */
            const volatile float product = (float)sum * layer->scale;
            *output++ = (int8_t)el_clamp(el_nearest(product + layer->bias), INT8_MIN, INT8_MAX);
        }
        input += layer->reduced * layer->inner;
    }
}

void el_litert_quantise(const struct el_litert_quantise *layer, const int8_t *input, int8_t *output)
{
    const int32_t minimum = INT8_MIN - layer->zero_point;
    const int32_t maximum = INT8_MAX - layer->zero_point;

    for (int32_t i = 0; i < layer->size; i++) {
        const int32_t nearest = el_nearest(((const el_float *)input)[i] * layer->factor);
        output[i] = (int8_t)(el_clamp(nearest, minimum, maximum) + layer->zero_point);
    }
}
