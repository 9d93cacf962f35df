/* Text over the UART. */
#ifndef EDGELOOP_TEXT_H
#define EDGELOOP_TEXT_H

#include <stdint.h>

void text_write(const char *text);

/* The same, with a decimal number wherever '#' stands. */
void text_write_number(const char *text, uint32_t number);

/* The lowest digits of a number in hexadecimal. */
void text_write_hex(uint32_t value, int32_t digits);

/* A number in thousandths, with three decimals. */
void text_write_milli(int32_t value);

#endif
