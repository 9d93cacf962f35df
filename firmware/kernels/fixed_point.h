/* gemmlowp's fixed-point steps. */
#ifndef EDGELOOP_FIXED_POINT_H
#define EDGELOOP_FIXED_POINT_H

#include <stdint.h>

/* High 32 bits of 2ab, rounded. Never called with both at INT32_MIN, the one product that would not fit. */
static inline int32_t el_multiply_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* x / 2^exponent, ties away from zero. */
static inline int32_t el_divide_by_power_of_two(int32_t x, int32_t exponent)
{
    if (exponent == 0) {
        return x;
    }
    return (((x + (x >> 31)) >> (exponent - 1)) + 1) >> 1;
}

/* x * multiplier / 2^31 * 2^shift, rounded after each of the two steps. */
static inline int32_t el_scale(int32_t x, int32_t multiplier, int32_t shift)
{
    if (shift > 0) {
        return el_multiply_high((int32_t)((uint32_t)x << shift), multiplier);
    }
    return el_divide_by_power_of_two(el_multiply_high(x, multiplier), -shift);
}

/* Whether 0 <= at < length, of a length that is not negative. */
static inline int32_t el_lies_inside(int32_t at, int32_t length)
{
    return (uint32_t)at < (uint32_t)length;
}

static inline int32_t el_clamp(int32_t x, int32_t minimum, int32_t maximum)
{
    if (x < minimum) {
        return minimum;
    }
    return x > maximum ? maximum : x;
}

#endif
