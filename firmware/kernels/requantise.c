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
    /* Outputs could alias what `to` points at, so it is read once. */
    const int32_t *multiplier = to->multiplier + channel;
    const int8_t *shift = to->shift + channel;
    const int32_t whole_range = el_has_whole_range(to);
    const int32_t offset = el_fast_offset(to);

    for (int32_t c = 0; c < channels; c++, sums += 4, output++) {
        if (whole_range && shift[c] < EL_FAST_SHIFTS_BELOW) {
            requantise_four(el_fast_steps(multiplier[c], shift[c], offset), sums, output, stride);
        } else {
            el_requantise_channel(to, channel + c, sums, 4, output, stride);
        }
    }
}

#endif

void el_requantise_channel(const struct el_requantisation *to, int32_t channel, const int32_t *sums, int32_t count,
                           int8_t *output, int32_t stride)
{
#if EL_DSP
    if (el_has_whole_range(to) && to->shift[channel] < EL_FAST_SHIFTS_BELOW) {
        const struct el_fast_steps steps =
            el_fast_steps(to->multiplier[channel], to->shift[channel], el_fast_offset(to));
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
