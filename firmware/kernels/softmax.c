#include "edgeloop_kernels.h"
#include "fixed_point.h"

/* Arguments of the exponential have 26 fractional bits; their sum has 12 integer bits: up to 4096 classes. */
#define FRACTION_BITS 26
#define SUM_INTEGER_BITS 12

/* One copy of what is called in a dozen places. */
__attribute__((noinline)) static int32_t multiply_high(int32_t a, int32_t b)
{
    return el_multiply_high(a, b);
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
EL_SMALL static int32_t one_over_one_plus(int32_t x)
{
    const int32_t half_denominator = (x >> 1) + (1 << 30);
    int32_t estimate = 1515870810 + multiply_high(half_denominator, -1010580540); /* 48/17 - 32/17 d, 2 integer bits */
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = (1 << 29) - multiply_high(half_denominator, estimate);
        estimate += multiply_high(estimate, error) * 4;
    }
    return estimate < 1 << 30 ? estimate * 2 : INT32_MAX;
}

/* exp(x) for x in [-1/4, 0), given with 26 fractional bits: the Taylor series around -1/8. */
EL_SMALL static int32_t exponential_of_fraction(int32_t x)
{
    const int32_t at_middle = 1895147668;
    const int32_t third = 715827883;
    const int32_t y = x * 32 + (1 << 28);
    const int32_t y2 = multiply_high(y, y);
    const int32_t y3 = multiply_high(y2, y);
    const int32_t y4 = multiply_high(y2, y2);
    const int32_t cubic = multiply_high(el_divide_by_power_of_two(y4, 2) + y3, third);
    return at_middle + multiply_high(at_middle, y + el_divide_by_power_of_two(cubic + y2, 1));
}

/* exp(-scale * below_largest) with 31 fractional bits, as in gemmlowp: quarters are factors, one for each bit. */
EL_SMALL static int32_t exponential(const struct el_softmax *layer, int32_t below_largest)
{
    static const int32_t factors[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t quarter = 1 << (FRACTION_BITS - 2);

    if (below_largest >= layer->terms) {
        return 0;
    }
    const int32_t x = multiply_high(-(below_largest << layer->shift), layer->multiplier);
    if (x == 0) {
        return INT32_MAX;
    }
    const int32_t fraction = (x & (quarter - 1)) - quarter;
    int32_t result = exponential_of_fraction(fraction);
    int32_t quarters = (fraction - x) >> (FRACTION_BITS - 2);
    for (const int32_t *factor = factors; quarters != 0; quarters >>= 1, factor++) {
        if (quarters & 1) {
            result = multiply_high(result, *factor);
        }
    }
    return result;
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
        const int32_t share = multiply_high(reciprocal, exponential(layer, largest - input[i]));
        const int32_t value = el_divide_by_power_of_two(share, exponent) + INT8_MIN;
        output[i] = (int8_t)el_clamp(value, INT8_MIN, INT8_MAX);
    }
}

EL_SMALL void el_softmax(const struct el_softmax *layer, const int8_t *input, int8_t *output)
{
    for (int32_t rows = layer->rows; rows > 0; rows--) {
        softmax_row(layer, input, output);
        input += layer->depth;
        output += layer->depth;
    }
}
