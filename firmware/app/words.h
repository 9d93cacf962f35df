/* Words of a command line, split by spaces. */
#ifndef EDGELOOP_WORDS_H
#define EDGELOOP_WORDS_H

#include <stdint.h>

/* Begins with a line, which is cut into its words in place. */
void words_start(char *line);

/* The next word, or 0 at the end. */
const char *words_next(void);

/* The next word as a decimal number of up to nine digits; at the end `otherwise`. */
#define NOT_A_NUMBER UINT32_MAX
uint32_t words_number(uint32_t otherwise);

/* Two hexadecimal digits as a byte; something negative when they are none. */
int32_t words_hex_byte(const char *digits);

#endif
