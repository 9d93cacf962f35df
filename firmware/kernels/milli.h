/* An element of an output in thousandths. Inline: scales are constants, and most leave little to compute. */
#ifndef EDGELOOP_MILLI_H
#define EDGELOOP_MILLI_H

#include "memory.h"

/* (value - zero_point) * scale in rounded thousandths, held to int32; `scale_milli` has 16 fractional bits. */
static inline int32_t el_milli(int64_t value, int32_t zero_point, int64_t scale_milli)
{
    const int64_t scaled = ((value - zero_point) * scale_milli + (1 << 15)) >> 16;
    if (scaled > INT32_MAX) {
        return INT32_MAX;
    }
    return scaled < -INT32_MAX ? -INT32_MAX : (int32_t)scaled;
}

static inline int32_t el_milli_int8(const int8_t *tensor, uint32_t element, int32_t zero_point, int64_t scale_milli)
{
    return el_milli(tensor[element], zero_point, scale_milli);
}

static inline int32_t el_milli_uint8(const int8_t *tensor, uint32_t element, int32_t zero_point, int64_t scale_milli)
{
    return el_milli((uint8_t)tensor[element], zero_point, scale_milli);
}

static inline int32_t el_milli_int16(const int8_t *tensor, uint32_t element, int32_t zero_point, int64_t scale_milli)
{
    return el_milli(((const el_int16 *)tensor)[element], zero_point, scale_milli);
}

static inline int32_t el_milli_int32(const int8_t *tensor, uint32_t element, int32_t zero_point, int64_t scale_milli)
{
    return el_milli(((const el_int32 *)tensor)[element], zero_point, scale_milli);
}

#endif
