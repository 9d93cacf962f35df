#include "requantise.h"

#include "matrix.h"

#if EL_DSP

static inline void requantise_fast(struct el_fast_steps steps, const int32_t *sums, int8_t *output, int32_t stride)
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

#endif

void el_requantise_rows(const struct el_requantisation *to, int32_t channel, int32_t channels, const int32_t *sums,
                        int8_t *output, int32_t stride)
{
    /* A copy, which writing outputs cannot change: its members are read once. */
    const struct el_requantisation fixed = *to;

    for (; channels > 0; channels--, channel++, sums += EL_ROWS, output++) {
#if EL_DSP
        if (el_fits_fast_steps(&fixed, channel)) {
            requantise_fast(el_fast_steps(&fixed, channel), sums, output, stride);
            continue;
        }
#endif
        for (int32_t row = 0; row < EL_ROWS; row++) {
            output[row * stride] = el_requantise(&fixed, channel, sums[row]);
        }
    }
}
