/* From reset to main, and what happens at a fault. */
#include "stack.h"
#include "text.h"
#include "uart.h"

#include <stdint.h>

#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08)
#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88)
#define CPACR_FPU_FULL_ACCESS (0xFu << 20)
#define PAINT 0xA5C35A3Cu
/* Painting stays this far below the stack pointer, so that it does not overwrite its own frame. */
#define PAINT_MARGIN_WORDS 16

extern uint32_t __stack_limit[], __stack_top[];
extern uint32_t __bss_start[], __bss_end[];

int main(void);
void reset_handler(void);
void hardfault_report(const uint32_t *frame);

/* Faults get a stack of their own: the fault may be that the usual one overflowed. */
#define FAULT_STACK_BYTES 256
#define QUOTED(text) #text
#define AS_TEXT(value) QUOTED(value)
uint32_t fault_stack[FAULT_STACK_BYTES / 4] __attribute__((aligned(8), used));

__attribute__((naked, used)) static void hardfault_handler(void)
{
    __asm volatile("mrs r0, msp\n"
                   "ldr r1, =fault_stack + " AS_TEXT(FAULT_STACK_BYTES) "\n"
                   "mov sp, r1\n"
                   "bl hardfault_report\n"
                   ".ltorg\n");
}

__attribute__((used)) void hardfault_report(const uint32_t *frame)
{
    const int on_stack = frame >= __stack_limit && frame + 8 <= __stack_top;
    text_write("e-[hardfault pc=");
    if (on_stack) {
        text_write("0x");
        text_write_hex(frame[6], 8);
    } else {
        text_write("unknown, the stack overflowed");
    }
    text_write("]\r\n");
    for (;;) {
    }
}

/* Up to the hard fault: nothing switches on the other faults, which end in that one then, or any interrupt. */
struct vector_table {
    uint32_t *stack;
    void (*reset)(void);
    void (*nmi)(void);
    void (*hardfault)(void);
};
__attribute__((section(".vectors"), used)) static const struct vector_table vectors = {
    __stack_top, reset_handler, hardfault_handler, hardfault_handler,
};

static void paint_stack(void)
{
    uint32_t here;
    __asm volatile("mov %0, sp" : "=r"(here));
    uint32_t *const end = (uint32_t *)here - PAINT_MARGIN_WORDS;
    for (volatile uint32_t *word = __stack_limit; word < end; word++) {
        *word = PAINT;
    }
}

uint32_t stack_bytes_total(void)
{
    return (uint32_t)((uintptr_t)__stack_top - (uintptr_t)__stack_limit);
}

uint32_t stack_bytes_used(void)
{
    const volatile uint32_t *word = __stack_limit;
    while (word < __stack_top && *word == PAINT) {
        word++;
    }
    return (uint32_t)((uintptr_t)__stack_top - (uintptr_t)word);
}

void reset_handler(void)
{
    SCB_VTOR = (uint32_t)(uintptr_t)&vectors;
#if defined(__ARM_FP)
    SCB_CPACR = CPACR_FPU_FULL_ACCESS;
    __asm volatile("dsb\n isb\n");
#endif
    paint_stack();
    for (uint32_t *to = __bss_start; to < __bss_end; to++) {
        *to = 0;
    }
    uart_start();
    main();
    for (;;) {
    }
}
