#include "requantise.h"

/* Headroom that TensorFlow Lite gives both operands of an addition. */
#define ADD_LEFT_SHIFT 20

static int32_t widened(const struct el_operand *operand, int32_t value)
{
    return el_scale((value + operand->offset) * (1 << ADD_LEFT_SHIFT), operand->multiplier, operand->shift);
}

static void add_any(const struct el_add *layer, const int8_t *a, const int8_t *b, int32_t count, int8_t *output)
{
    for (int32_t i = 0; i < count; i++) {
        const int32_t left = widened(&layer->a, a[i]);
        const int32_t right = widened(&layer->b, b[i]);
        const int32_t sum = layer->negate_b ? left - right : left + right;
        const int32_t scaled = el_scale(sum, layer->multiplier, layer->shift) + layer->output_offset;
        output[i] = (int8_t)el_clamp(scaled, layer->minimum, layer->maximum);
    }
}

#if EL_DSP && !EL_NUMERICS_LITERT

/* The steps of requantise.h for an operand. The common scale is twice the larger of both, so the operand with the larger
 * one is halved exactly: shift 0 and multiplier 2^30. Twice the value and a shift of -1 give the same bits, and spare
 * the fast steps an exception. */
struct fast_operand {
    int32_t offset;
    int32_t left_shift;
    int32_t twice_multiplier;
    int32_t right_shift;
};

static struct fast_operand fast_operand(const struct el_operand *operand)
{
    const int32_t halved = operand->shift == 0;
    const struct fast_operand fast = {
        operand->offset,
        ADD_LEFT_SHIFT + halved,
        (int32_t)((uint32_t)operand->multiplier << 1),
        -1 - (operand->shift - halved),
    };
    return fast;
}

static int32_t is_fast_operand(const struct el_operand *operand)
{
    return operand->shift < 0 || (operand->shift == 0 && operand->multiplier == 1 << 30);
}

static inline int32_t widened_fast(struct fast_operand operand, int32_t value)
{
    const int32_t shifted = (value + operand.offset) << operand.left_shift;
    const int32_t high = el_add_product_high(shifted, operand.twice_multiplier);
    return (((high + (high >> 31)) >> operand.right_shift) + 1) >> 1;
}

static void add_fast(const struct el_add *layer, const int8_t *a, const int8_t *b, int32_t count, int8_t *output)
{
    const struct fast_operand left = fast_operand(&layer->a);
    const struct fast_operand right = fast_operand(&layer->b);
    const struct el_fast_steps steps = el_fast_steps_of(layer->multiplier, layer->shift, layer->output_offset);
    const int32_t sign = layer->negate_b ? -1 : 1;

    for (const int8_t *const end = a + count; a != end;) {
        *output++ = el_requantise_fast(steps, widened_fast(left, *a++) + sign * widened_fast(right, *b++));
    }
}

#endif

void el_add(const struct el_add *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    void (*add)(const struct el_add *, const int8_t *, const int8_t *, int32_t, int8_t *) = add_any;
    const int32_t run = layer->a.size < layer->b.size ? layer->a.size : layer->b.size;
#if EL_DSP && !EL_NUMERICS_LITERT
    if (is_fast_operand(&layer->a) && is_fast_operand(&layer->b) && layer->shift < EL_FAST_SHIFTS_BELOW &&
        layer->minimum == INT8_MIN && layer->maximum == INT8_MAX) {
        add = add_fast;
    }
#endif
    /* The smaller operand repeats; it divides the other. */
    for (int32_t done = 0; done < layer->size; done += run) {
        add(layer, a + done % layer->a.size, b + done % layer->b.size, run, output + done);
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
