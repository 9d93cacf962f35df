/* Words of a command line, split by spaces. */
#ifndef EDGELOOP_WORDS_H
#define EDGELOOP_WORDS_H

#include <stdint.h>

struct words {
    char *rest;
};

/* The next word, terminated in place, or 0 at the end. */
const char *words_next(struct words *words);

/* Decimal, up to nine digits. They return 0 when there is no such number; the optional one leaves the default then,
 * and fails only at something that is not a number. */
int words_number(struct words *words, uint32_t *value);
int words_optional_number(struct words *words, uint32_t *value);

/* Two hexadecimal digits. */
int words_hex_byte(const char *digits, uint8_t *value);

#endif
