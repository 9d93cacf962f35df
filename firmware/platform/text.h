/* Text over the UART. */
#ifndef EDGELOOP_TEXT_H
#define EDGELOOP_TEXT_H

#include <stdint.h>

void text_write(const char *text);
void text_write_unsigned(uint32_t value);
void text_write_hex(uint32_t value);
void text_write_hex_byte(uint8_t value);

/* A number in thousandths, with three decimals. */
void text_write_milli(int32_t value);

#endif
