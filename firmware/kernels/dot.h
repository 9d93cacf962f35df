/* Inner products. Several output channels share each load of an input value. */
#ifndef EDGELOOP_DOT_H
#define EDGELOOP_DOT_H

#include <stdint.h>

/* ARMv6-M has eight registers that every instruction reaches, ARMv7-M thirteen. */
#if defined(__ARM_ARCH_6M__)
#define EL_CHANNELS 2
#else
#define EL_CHANNELS 4
#endif

/* sums[k] += x . w[k * stride], for EL_CHANNELS values of k. */
static inline void el_dot_channels(const int8_t *x, const int8_t *w, int32_t stride, int32_t length, int32_t *sums)
{
    const int8_t *const end = x + length;
    const int8_t *w0 = w;
    const int8_t *w1 = w0 + stride;
    int32_t sum0 = sums[0];
    int32_t sum1 = sums[1];
#if EL_CHANNELS == 4
    const int8_t *w2 = w1 + stride;
    const int8_t *w3 = w2 + stride;
    int32_t sum2 = sums[2];
    int32_t sum3 = sums[3];
#endif
    while (x != end) {
        const int32_t value = *x++;
        sum0 += value * *w0++;
        sum1 += value * *w1++;
#if EL_CHANNELS == 4
        sum2 += value * *w2++;
        sum3 += value * *w3++;
#endif
    }
    sums[0] = sum0;
    sums[1] = sum1;
#if EL_CHANNELS == 4
    sums[2] = sum2;
    sums[3] = sum3;
#endif
}

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
