#include "matrix.h"

#if EL_DSP

int32_t *el_widen(const int8_t *from, int32_t depth, int32_t zero_point, int32_t *to)
{
    const int32_t offsets = el_lower_halves(-zero_point, -zero_point);
    for (; depth > 0; depth -= EL_DEPTH_STEP, from += EL_DEPTH_STEP, to += 2 * EL_ROWS) {
        const int32_t word = el_word_at(from);
        const int32_t even = el_add_even_bytes(offsets, word);
        const int32_t odd = el_add_odd_bytes(offsets, word);
        to[0] = el_lower_halves(even, odd);
        to[EL_ROWS] = el_upper_halves(even, odd);
    }
    return to;
}

/* Eight sums, two channels, two rows and two pointers: every register there is. Compilers would spill some of them in
 * the innermost loop, so it is written out. r4-r7 are the first channel's sums, r8-r11 the second's; the end of the
 * rows waits on the stack. */
#define FOUR_ROWS_TWO_VALUES                                                                                           \
    "ldr r12, [r1], #4\n"                                                                                              \
    "ldrd r2, r3, [r0], #8\n"                                                                                          \
    "sxtb16 lr, r12, ror #8\n"                                                                                         \
    "sxtb16 r12, r12\n"                                                                                                \
    "smlad r4, r2, r12, r4\n"                                                                                          \
    "smlad r8, r2, lr, r8\n"                                                                                           \
    "smlad r5, r3, r12, r5\n"                                                                                          \
    "smlad r9, r3, lr, r9\n"                                                                                           \
    "ldrd r2, r3, [r0], #8\n"                                                                                          \
    "smlad r6, r2, r12, r6\n"                                                                                          \
    "smlad r10, r2, lr, r10\n"                                                                                         \
    "smlad r7, r3, r12, r7\n"                                                                                          \
    "smlad r11, r3, lr, r11\n"

#define IN_A_REGISTER __attribute__((unused))
__attribute__((naked)) void el_multiply_rows(IN_A_REGISTER const int32_t *rows, IN_A_REGISTER const int8_t *weights,
                                             IN_A_REGISTER int32_t depth, IN_A_REGISTER int32_t *sums)
{
    __asm volatile("tst r2, #4\n" /* an odd number of steps begins in the middle of the loop */
                   "add r2, r0, r2, lsl #3\n"
                   "push {r2-r11, lr}\n"
                   "ldm r3, {r4-r11}\n"
                   "bne 2f\n"
                   "1:\n" FOUR_ROWS_TWO_VALUES FOUR_ROWS_TWO_VALUES
                   "2:\n" FOUR_ROWS_TWO_VALUES FOUR_ROWS_TWO_VALUES
                   "ldr r2, [sp]\n"
                   "cmp r0, r2\n"
                   "bne 1b\n"
                   "ldr r3, [sp, #4]\n"
                   "stm r3, {r4-r11}\n"
                   "pop {r2-r11, pc}\n");
}

void el_multiply_row(const int32_t *rows, const int8_t *weights, int32_t depth, int32_t *sums)
{
    int32_t first = sums[0];
    int32_t second = sums[EL_ROWS];
    for (; depth > 0; depth -= 2, rows += EL_ROWS, weights += 4) {
        const int32_t pairs = el_word_at(weights);
        first = __smlad(*rows, el_even_bytes(pairs), first);
        second = __smlad(*rows, el_odd_bytes(pairs), second);
    }
    sums[0] = first;
    sums[EL_ROWS] = second;
}

#else

int32_t *el_widen(const int8_t *from, int32_t depth, int32_t zero_point, int32_t *to)
{
    int16_t *values = (int16_t *)to;
    for (int32_t i = 0; i < depth; i++) {
        values[i] = (int16_t)(from[i] - zero_point);
    }
    return to + depth / 2;
}

/* ARMv6-M has eight registers that every instruction reaches: here they are two sums, three bases, an index and two
 * values. Unrolled, the loop would keep them on the stack. */
void el_multiply_row(const int32_t *rows, const int8_t *weights, int32_t depth, int32_t *sums)
{
    const char *const values = (const char *)rows;
    const int8_t *const others = weights + 1;
    int32_t first = sums[0];
    int32_t second = sums[EL_ROWS];
#pragma GCC unroll 1
    for (int32_t at = 2 * depth - 2; at >= 0; at -= 2) {
        const int32_t value = *(const int16_t *)(values + at);
        first += value * weights[at];
        second += value * others[at];
    }
    sums[0] = first;
    sums[EL_ROWS] = second;
}

void el_multiply_rows(const int32_t *rows, const int8_t *weights, int32_t depth, int32_t *sums)
{
    el_multiply_row(rows, weights, depth, sums);
}

#endif
