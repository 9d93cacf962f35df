/* CMSDK APB timer 0, the time base: 25 MHz. */
#ifndef EDGELOOP_TIMER_H
#define EDGELOOP_TIMER_H

#include <stdint.h>

#define TIMER_TICKS_PER_US 25u

void timer_start(void);

/* Ticks since the start, modulo 2^32 (171 s). */
uint32_t timer_ticks(void);

#endif
