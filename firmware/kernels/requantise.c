#include "requantise.h"

void el_requantise_channel(const struct el_requantisation *to, int32_t channel, const int32_t *sums, int32_t count,
                           int8_t *output, int32_t stride)
{
#if EL_DSP
    if (el_fits_fast_steps(to, channel)) {
        const struct el_fast_steps steps = el_fast_steps(to, channel);
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
