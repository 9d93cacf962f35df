#include "edgeloop_kernels.h"
#include "fixed_point.h"

/* The sum of exponentials has 12 integer bits: up to 4096 classes. */
#define SUM_INTEGER_BITS 12

static int32_t saturating_shift_left(int32_t x, int32_t bits)
{
    const int32_t largest = INT32_MAX >> bits;
    if (x > largest) {
        return INT32_MAX;
    }
    return x < -largest - 1 ? INT32_MIN : (int32_t)((uint32_t)x << bits);
}

/* Of a number that is not zero. */
static int32_t leading_zeros(uint32_t x)
{
#if defined(__ARM_FEATURE_CLZ)
    return __builtin_clz(x);
#else
    int32_t zeros = 0;
    while ((x & 0x80000000u) == 0) {
        x <<= 1;
        zeros++;
    }
    return zeros;
#endif
}

/* 1 / (1 + x) for x in [0, 1) with 31 fractional bits: Newton-Raphson as in gemmlowp. */
static int32_t one_over_one_plus(int32_t x)
{
    const int32_t half_denominator = (x >> 1) + (1 << 30);
    int32_t estimate = 1515870810 + el_multiply_high(half_denominator, -1010580540); /* 48/17 - 32/17 d, 2 integer bits */
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = (1 << 29) - el_multiply_high(half_denominator, estimate);
        estimate += saturating_shift_left(el_multiply_high(estimate, error), 2);
    }
    return saturating_shift_left(estimate, 1);
}

static int32_t exponential(const struct el_softmax *layer, int32_t below_largest)
{
    return below_largest < layer->terms ? layer->exponentials[below_largest] : 0;
}

EL_SMALL static void softmax_row(const struct el_softmax *layer, const int8_t *input, int8_t *output)
{
    int32_t largest = INT8_MIN;
    for (int32_t i = 0; i < layer->depth; i++) {
        largest = input[i] > largest ? input[i] : largest;
    }
    int32_t sum = 0;
    for (int32_t i = 0; i < layer->depth; i++) {
        sum += el_divide_by_power_of_two(exponential(layer, largest - input[i]), SUM_INTEGER_BITS);
    }
    const int32_t headroom = leading_zeros((uint32_t)sum);
    const int32_t reciprocal = one_over_one_plus((int32_t)(((uint32_t)sum << headroom) - 0x80000000u));
    const int32_t exponent = SUM_INTEGER_BITS - headroom + 31 - 8;
    for (int32_t i = 0; i < layer->depth; i++) {
        const int32_t share = el_multiply_high(reciprocal, exponential(layer, largest - input[i]));
        const int32_t value = el_divide_by_power_of_two(share, exponent) + INT8_MIN;
        output[i] = (int8_t)el_clamp(value, INT8_MIN, INT8_MAX);
    }
}

EL_SMALL void el_softmax(const struct el_softmax *layer, const int8_t *input, int8_t *output)
{
    for (int32_t row = 0; row < layer->rows; row++) {
        softmax_row(layer, input, output);
        input += layer->depth;
        output += layer->depth;
    }
}
