/* From int32 sums to int8 outputs. */
#ifndef EDGELOOP_REQUANTISE_H
#define EDGELOOP_REQUANTISE_H

#include "dsp.h"
#include "edgeloop_kernels.h"
#include "fixed_point.h"

static inline int8_t el_requantise(const struct el_requantisation *to, int32_t channel, int32_t sum)
{
    const int32_t scaled = el_scale(sum, to->multiplier[channel], to->shift[channel]);
    return (int8_t)el_clamp(scaled + to->output_zero_point, to->minimum, to->maximum);
}

#if EL_DSP

/* Both roundings, the zero point and the range of int8 in five instructions, for outputs that use the whole range and
 * shifts that leave room for twice the zero point.
 *
 * With twice the multiplier taken modulo 2^32, smmlar gives el_multiply_high for every sum: the 2^32 that is missing
 * from the multiplier comes back as the sum itself. What follows is el_divide_by_power_of_two with the zero point added
 * ahead of its last shift, which the saturation does on its way. */
struct el_fast_steps {
    int32_t twice_multiplier;
    int32_t shift;
    int32_t offset;
};

static inline int32_t el_fits_fast_steps(const struct el_requantisation *to, int32_t channel)
{
    return to->shift[channel] < -1 && to->minimum == INT8_MIN && to->maximum == INT8_MAX;
}

static inline struct el_fast_steps el_fast_steps(const struct el_requantisation *to, int32_t channel)
{
    const struct el_fast_steps steps = {
        (int32_t)((uint32_t)to->multiplier[channel] << 1),
        -1 - to->shift[channel],
        2 * to->output_zero_point + 1,
    };
    return steps;
}

static inline int8_t el_requantise_fast(struct el_fast_steps steps, int32_t sum)
{
    const int32_t high = el_add_product_high(sum, steps.twice_multiplier);
    return el_half_to_int8(((high + (high >> 31)) >> steps.shift) + steps.offset);
}

#endif

/* `count` sums of one channel, whose outputs are `stride` bytes apart. */
void el_requantise_channel(const struct el_requantisation *to, int32_t channel, const int32_t *sums, int32_t count,
                           int8_t *output, int32_t stride);

#endif
