/* CMSDK APB timer, the time base; its clock is the board's. */
#ifndef EDGELOOP_TIMER_H
#define EDGELOOP_TIMER_H

#include "board.h"

#include <stdint.h>

#define TIMER_TICKS_PER_US (BOARD_PERIPHERAL_HZ / 1000000u)

void timer_start(void);

/* Ticks since the start, modulo 2^32. */
uint32_t timer_ticks(void);

#endif
