#include "words.h"

#define DIGITS 9

const char *words_next(struct words *words)
{
    char *word = words->rest;
    while (*word == ' ') {
        word++;
    }
    char *end = word;
    while (*end != '\0' && *end != ' ') {
        end++;
    }
    words->rest = *end == '\0' ? end : end + 1;
    *end = '\0';
    return *word == '\0' ? 0 : word;
}

static int parse(const char *word, uint32_t *value)
{
    uint32_t number = 0;
    int32_t count = 0;
    for (; word[count] != '\0'; count++) {
        if (count == DIGITS || word[count] < '0' || word[count] > '9') {
            return 0;
        }
        number = number * 10 + (uint32_t)(word[count] - '0');
    }
    *value = number;
    return count != 0;
}

int words_number(struct words *words, uint32_t *value)
{
    const char *word = words_next(words);
    return word != 0 && parse(word, value);
}

int words_optional_number(struct words *words, uint32_t *value)
{
    const char *word = words_next(words);
    return word == 0 || parse(word, value);
}

static int32_t hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    if (digit >= 'A' && digit <= 'F') {
        return digit - 'A' + 10;
    }
    return -1;
}

int words_hex_byte(const char *digits, uint8_t *value)
{
    const int32_t high = hex_digit(digits[0]);
    const int32_t low = high < 0 ? -1 : hex_digit(digits[1]);
    if (low < 0) {
        return 0;
    }
    *value = (uint8_t)(high * 16 + low);
    return 1;
}
