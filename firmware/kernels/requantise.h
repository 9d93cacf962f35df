#ifndef EDGELOOP_REQUANTISE_H
#define EDGELOOP_REQUANTISE_H

#include "edgeloop_kernels.h"
#include "fixed_point.h"

static inline int8_t el_requantise(const struct el_requantisation *to, int32_t channel, int32_t sum)
{
    const int32_t scaled = el_scale(sum, to->multiplier[channel], to->shift[channel]);
    return (int8_t)el_clamp(scaled + to->output_zero_point, to->minimum, to->maximum);
}

#endif
