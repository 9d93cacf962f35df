/*
 * Recorded sensor data, played into the second UART as frames:
 *
 *     0x7E | length | sequence, 2 bytes | payload, `length` bytes | CRC-16, 2 bytes
 *
 * Numbers are big-endian. The CRC is CRC-16/CCITT-FALSE of everything between 0x7E and itself. Sequence numbers count from 0;
 * a frame of length 0 ends the trace. Payloads are one stream of int8 values, whatever frames they come in.
 */
#ifndef EDGELOOP_PLAYBACK_H
#define EDGELOOP_PLAYBACK_H

#include <stdint.h>

/* Moves a window on by `hop` bytes of the trace. Returns 0 when the trace ended before. */
int playback_move(int8_t *window, uint32_t bytes, uint32_t hop);

/* Writes what became of the trace's frames so far: whole, lost (a gap in their numbers), damaged (a wrong CRC). */
void playback_show(void);

#endif
