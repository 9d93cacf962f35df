/* The instructions of Arm's DSP extension that C has no operator for. Cortex-M4, M7 and M33 have it; EL_PORTABLE leaves
 * it alone. */
#ifndef EDGELOOP_DSP_H
#define EDGELOOP_DSP_H

#if defined(__ARM_FEATURE_DSP) && !defined(EL_PORTABLE)

#define EL_DSP 1

#include <stdint.h>

#if defined(__clang__) || __GNUC__ >= 10
#include <arm_acle.h>
#else
/* ACLE's functions that GCC lacks before version 10; Arduino's cores bring 7 and 8. */
static inline int32_t __sxtb16(int32_t a)
{
    int32_t halves;
    __asm("sxtb16 %0, %1" : "=r"(halves) : "r"(a));
    return halves;
}

static inline int32_t __sxtab16(int32_t halves, int32_t a)
{
    int32_t sums;
    __asm("sxtab16 %0, %1, %2" : "=r"(sums) : "r"(halves), "r"(a));
    return sums;
}

static inline int32_t __smlad(int32_t a, int32_t b, int32_t sum)
{
    int32_t out;
    __asm("smlad %0, %1, %2, %3" : "=r"(out) : "r"(a), "r"(b), "r"(sum));
    return out;
}

static inline int32_t __smlabt(int32_t a, int32_t b, int32_t sum)
{
    int32_t out;
    __asm("smlabt %0, %1, %2, %3" : "=r"(out) : "r"(a), "r"(b), "r"(sum));
    return out;
}

static inline int32_t __smlatb(int32_t a, int32_t b, int32_t sum)
{
    int32_t out;
    __asm("smlatb %0, %1, %2, %3" : "=r"(out) : "r"(a), "r"(b), "r"(sum));
    return out;
}
#endif

/* Four bytes from anywhere. Never merged into a wider load, which would have to be aligned. */
static inline int32_t el_word_at(const void *from)
{
    int32_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
}

static inline void el_put_word(void *to, int32_t word)
{
    __builtin_memcpy(to, &word, sizeof word);
}

/* Bytes 0 and 2, or 1 and 3, as two halfwords. */
static inline int32_t el_even_bytes(int32_t word)
{
    return __sxtb16(word);
}

static inline int32_t el_odd_bytes(int32_t word)
{
    int32_t halves;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(word));
    return halves;
}

/* The same, added to two halfwords. */
static inline int32_t el_add_even_bytes(int32_t halves, int32_t word)
{
    return __sxtab16(halves, word);
}

static inline int32_t el_add_odd_bytes(int32_t halves, int32_t word)
{
    int32_t sums;
    __asm("sxtab16 %0, %1, %2, ror #8" : "=r"(sums) : "r"(halves), "r"(word));
    return sums;
}

/* The lower halfwords of both, or the upper ones. */
static inline int32_t el_lower_halves(int32_t low, int32_t high)
{
    return (int32_t)(((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16);
}

static inline int32_t el_upper_halves(int32_t low, int32_t high)
{
    return (int32_t)((uint32_t)low >> 16 | ((uint32_t)high & 0xFFFF0000u));
}

/* a + (a * b + 2^31 >> 32), in 64 bits. */
static inline int32_t el_add_product_high(int32_t a, int32_t b)
{
    int32_t sum;
    __asm("smmlar %0, %1, %2, %1" : "=r"(sum) : "r"(a), "r"(b));
    return sum;
}

/* x / 2, rounded down, held to int8. */
static inline int8_t el_half_to_int8(int32_t x)
{
    int32_t held;
    __asm("ssat %0, #8, %1, asr #1" : "=r"(held) : "r"(x));
    return (int8_t)held;
}

#else
#define EL_DSP 0
#endif

#endif
