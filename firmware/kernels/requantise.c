#include "requantise.h"

#if EL_DSP

static inline void requantise_four(struct el_fast_steps steps, const int32_t *sums, int8_t *output, int32_t stride)
{
    const int32_t first = sums[0];
    const int32_t second = sums[1];
    const int32_t third = sums[2];
    const int32_t fourth = sums[3];
    *output = el_requantise_fast(steps, first);
    output += stride;
    *output = el_requantise_fast(steps, second);
    output += stride;
    *output = el_requantise_fast(steps, third);
    output += stride;
    *output = el_requantise_fast(steps, fourth);
}

void el_requantise_four_rows(const struct el_requantisation *to, int32_t channel, int32_t channels, const int32_t *sums,
                             int8_t *output, int32_t stride)
{
    /* A copy, which writing outputs cannot change: its members are read once. */
    const struct el_requantisation fixed = *to;

    for (; channels > 0; channels--, channel++, sums += 4, output++) {
        if (el_fits_fast_steps(&fixed, channel)) {
            requantise_four(el_fast_steps(&fixed, channel), sums, output, stride);
        } else {
            el_requantise_channel(to, channel, sums, 4, output, stride);
        }
    }
}

#endif

void el_requantise_channel(const struct el_requantisation *to, int32_t channel, const int32_t *sums, int32_t count,
                           int8_t *output, int32_t stride)
{
#if EL_DSP
    if (el_fits_fast_steps(to, channel)) {
        const struct el_fast_steps steps = el_fast_steps(to, channel);
        for (; count >= 4; count -= 4, sums += 4, output += 4 * stride) {
            requantise_four(steps, sums, output, stride);
        }
        for (; count > 0; count--, output += stride) {
            *output = el_requantise_fast(steps, *sums++);
        }
        return;
    }
#endif
    for (; count > 0; count--, output += stride) {
        *output = el_requantise(to, channel, *sums++);
    }
}
