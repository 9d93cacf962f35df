/* From float32 to the nearest whole number, ties to even: LiteRT's only rounding. */
#ifndef EDGELOOP_NEAREST_H
#define EDGELOOP_NEAREST_H

#include <stdint.h>

/* What is 2^22 or more away from zero may become any number as large; callers clamp to far less. */
static inline int32_t el_nearest(float x)
{
#if defined(__ARM_FP) && (__ARM_FP & 4)
    /* VCVTR rounds as FPSCR says, which is to even after reset, and saturates. C has this only in libm. */
    float bits;
    union {
        float value;
        int32_t whole;
    } result;
    __asm__("vcvtr.s32.f32 %0, %1" : "=t"(bits) : "t"(x));
    result.value = bits;
    return result.whole;
#else
    union {
        float value;
        uint32_t bits;
    } as = {x};
    const int32_t exponent = (int32_t)(as.bits >> 23 & 0xFF) - 127;
    int32_t magnitude = 1 << 22;
    if (exponent < -1) {
        return 0;
    }
    if (exponent < 22) {
        const int32_t fraction_bits = 23 - exponent;
        const uint32_t mantissa = (as.bits & 0x7FFFFF) | 0x800000;
        const uint32_t odd = mantissa >> fraction_bits & 1;
        magnitude = (int32_t)((mantissa + (1u << (fraction_bits - 1)) - 1 + odd) >> fraction_bits);
    }
    return as.bits >> 31 ? -magnitude : magnitude;
#endif
}

#endif
