#include "edgeloop_kernels.h"
#include "fixed_point.h"

/* Headroom that TensorFlow Lite gives both operands of an addition. */
#define ADD_LEFT_SHIFT 20

static int32_t widened(const struct el_operand *operand, int32_t value)
{
    return el_scale((value + operand->offset) * (1 << ADD_LEFT_SHIFT), operand->multiplier, operand->shift);
}

void el_add(const struct el_add *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    int32_t at_a = 0;
    int32_t at_b = 0;

    for (int32_t i = 0; i < layer->size; i++) {
        const int32_t left = widened(&layer->a, a[at_a]);
        const int32_t right = widened(&layer->b, b[at_b]);
        const int32_t sum = layer->negate_b ? left - right : left + right;
        const int32_t scaled = el_scale(sum, layer->multiplier, layer->shift) + layer->output_offset;
        output[i] = (int8_t)el_clamp(scaled, layer->minimum, layer->maximum);
        at_a = at_a + 1 == layer->a.size ? 0 : at_a + 1;
        at_b = at_b + 1 == layer->b.size ? 0 : at_b + 1;
    }
}

void el_mul(const struct el_mul *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    int32_t at_a = 0;
    int32_t at_b = 0;

    for (int32_t i = 0; i < layer->size; i++) {
        const int32_t product = (a[at_a] + layer->a.offset) * (b[at_b] + layer->b.offset);
        const int32_t scaled = el_scale(product, layer->multiplier, layer->shift) + layer->output_offset;
        output[i] = (int8_t)el_clamp(scaled, layer->minimum, layer->maximum);
        at_a = at_a + 1 == layer->a.size ? 0 : at_a + 1;
        at_b = at_b + 1 == layer->b.size ? 0 : at_b + 1;
    }
}

void el_lookup(const struct el_lookup *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        output[i] = layer->table[input[i] + 128];
    }
}
