#include "words.h"

#define DIGITS 9
/* So low that a byte of which it is a part is negative, too. */
#define NO_DIGIT (-256)

static char *rest;

void words_start(char *line)
{
    rest = line;
}

const char *words_next(void)
{
    char *end = rest;
    while (*end == ' ') {
        end++;
    }
    const char *const word = end;
    while (*end != '\0' && *end != ' ') {
        end++;
    }
    rest = *end == '\0' ? end : end + 1;
    *end = '\0';
    return *word == '\0' ? 0 : word;
}

static int32_t digit_of(char character)
{
    const uint32_t decimal = (uint32_t)character - '0';
    if (decimal < 10) {
        return (int32_t)decimal;
    }
    /* With this bit a letter is a small one. */
    const uint32_t letter = ((uint32_t)character | 0x20u) - 'a';
    return letter < 6 ? (int32_t)letter + 10 : NO_DIGIT;
}

uint32_t words_number(uint32_t otherwise)
{
    const char *const word = words_next();
    if (word == 0) {
        return otherwise;
    }
    uint32_t number = 0;
    for (int32_t count = 0; word[count] != '\0'; count++) {
        const uint32_t digit = (uint32_t)digit_of(word[count]);
        if (count == DIGITS || digit > 9) {
            return NOT_A_NUMBER;
        }
        number = number * 10 + digit;
    }
    return number;
}

int32_t words_hex_byte(const char *digits)
{
    return digit_of(digits[0]) * 16 + digit_of(digits[1]);
}
