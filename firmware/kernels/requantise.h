/* From int32 sums to int8 outputs. */
#ifndef EDGELOOP_REQUANTISE_H
#define EDGELOOP_REQUANTISE_H

#include "dsp.h"
#include "edgeloop_kernels.h"
#include "fixed_point.h"
#include "nearest.h"

static inline int32_t el_bias(const struct el_requantisation *to, int32_t channel)
{
#if EL_SHIFTS_IN_BIASES
    return to->bias[channel] >> 8;
#else
    return to->bias[channel];
#endif
}

#if EL_NUMERICS_LITERT

static inline int8_t el_requantise(const struct el_requantisation *to, int32_t channel, int32_t sum)
{
    /* Clamped before the zero point is added, which might not fit. */
    const int32_t zero_point = to->output_zero_point;
    const int32_t scaled = el_nearest((float)sum * to->scale[channel]);
    return (int8_t)(el_clamp(scaled, to->minimum - zero_point, to->maximum - zero_point) + zero_point);
}

#if EL_DSP

/* For outputs that use the whole range of int8: two saturations are the clamp and the zero point. */
struct el_fast_steps {
    float scale;
    int32_t zero_point;
};

static inline int32_t el_fits_fast_steps(const struct el_requantisation *to, int32_t channel)
{
    (void)channel;
    return EL_ALL_FIT_FAST_STEPS || (to->minimum == INT8_MIN && to->maximum == INT8_MAX);
}

static inline struct el_fast_steps el_fast_steps(const struct el_requantisation *to, int32_t channel)
{
    const struct el_fast_steps steps = {to->scale[channel], to->output_zero_point};
    return steps;
}

static inline int8_t el_requantise_fast(struct el_fast_steps steps, int32_t sum)
{
    return (int8_t)__ssat(__qadd(el_nearest((float)sum * steps.scale), steps.zero_point), 8);
}

#endif

#else

static inline int32_t el_multiplier(const struct el_requantisation *to, int32_t channel)
{
#if EL_SHIFTS_IN_MULTIPLIERS
    return (to->multiplier[channel] & 0x3FFFFFFF) | 0x40000000;
#else
    return to->multiplier[channel];
#endif
}

static inline int32_t el_shift(const struct el_requantisation *to, int32_t channel)
{
#if EL_SHIFTS_IN_BIASES
    return (int8_t)to->bias[channel];
#elif EL_SHIFTS_IN_MULTIPLIERS
    return to->largest_shift - (int32_t)((uint32_t)to->multiplier[channel] >> 30);
#else
    return to->shift[channel];
#endif
}

static inline int8_t el_requantise(const struct el_requantisation *to, int32_t channel, int32_t sum)
{
    const int32_t scaled = el_scale(sum, el_multiplier(to, channel), el_shift(to, channel));
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

#define EL_FAST_SHIFTS_BELOW (-1)

static inline int32_t el_fits_fast_steps(const struct el_requantisation *to, int32_t channel)
{
    return EL_ALL_FIT_FAST_STEPS || (el_shift(to, channel) < EL_FAST_SHIFTS_BELOW && to->minimum == INT8_MIN &&
                                     to->maximum == INT8_MAX);
}

static inline struct el_fast_steps el_fast_steps_of(int32_t multiplier, int32_t shift, int32_t zero_point)
{
    const struct el_fast_steps steps = {(int32_t)((uint32_t)multiplier << 1), -1 - shift, 2 * zero_point + 1};
    return steps;
}

static inline struct el_fast_steps el_fast_steps(const struct el_requantisation *to, int32_t channel)
{
    return el_fast_steps_of(el_multiplier(to, channel), el_shift(to, channel), to->output_zero_point);
}

static inline int8_t el_requantise_fast(struct el_fast_steps steps, int32_t sum)
{
    const int32_t high = el_add_product_high(sum, steps.twice_multiplier);
    return el_half_to_int8(((high + (high >> 31)) >> steps.shift) + steps.offset);
}

#endif

#endif

/* sums[EL_ROWS * c + r] becomes output[r * stride + c], for `channels` channels from `channel` on and EL_ROWS rows. */
void el_requantise_rows(const struct el_requantisation *to, int32_t channel, int32_t channels, const int32_t *sums,
                        int8_t *output, int32_t stride);

#endif
