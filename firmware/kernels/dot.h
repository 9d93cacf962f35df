/* Inner products. Several output channels share each load of an input value. */
#ifndef EDGELOOP_DOT_H
#define EDGELOOP_DOT_H

#include <stdint.h>

/* sums[k] += x . w[k * stride], for EL_CHANNELS values of k. */
#if defined(__ARM_ARCH_6M__)

/* ARMv6-M has eight registers that every instruction reaches: three bases, an index, two sums and two values. Inlined
 * or unrolled, the loop would keep them on the stack. */
#define EL_CHANNELS 2
__attribute__((noinline, unused)) static void el_dot_channels(const int8_t *x, const int8_t *w, int32_t stride,
                                                              int32_t length, int32_t *sums)
{
    const int8_t *const w0 = w;
    const int8_t *const w1 = w + stride;
    int32_t sum0 = sums[0];
    int32_t sum1 = sums[1];
#pragma GCC unroll 1
    for (int32_t i = length - 1; i >= 0; i--) {
        const int32_t value = x[i];
        sum0 += value * w0[i];
        sum1 += value * w1[i];
    }
    sums[0] = sum0;
    sums[1] = sum1;
}

#else

#define EL_CHANNELS 4
static inline void el_dot_channels(const int8_t *x, const int8_t *w, int32_t stride, int32_t length, int32_t *sums)
{
    const int8_t *const end = x + length;
    const int8_t *w0 = w;
    const int8_t *w1 = w0 + stride;
    const int8_t *w2 = w1 + stride;
    const int8_t *w3 = w2 + stride;
    int32_t sum0 = sums[0];
    int32_t sum1 = sums[1];
    int32_t sum2 = sums[2];
    int32_t sum3 = sums[3];
    while (x != end) {
        const int32_t value = *x++;
        sum0 += value * *w0++;
        sum1 += value * *w1++;
        sum2 += value * *w2++;
        sum3 += value * *w3++;
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

#endif

static inline int32_t el_dot(const int8_t *x, const int8_t *w, int32_t length)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < length; i++) {
        sum += x[i] * w[i];
    }
    return sum;
}

static inline int32_t el_sum(const int8_t *w, int32_t length)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < length; i++) {
        sum += w[i];
    }
    return sum;
}

#endif
