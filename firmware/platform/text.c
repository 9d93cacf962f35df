#include "text.h"

#include "uart.h"

static void write_digits(uint32_t value, int32_t at_least)
{
    if (value > 9 || at_least > 1) {
        write_digits(value / 10, at_least - 1);
    }
    uart_write((uint8_t)('0' + value % 10));
}

void text_write_number(const char *text, uint32_t number)
{
    for (; *text != '\0'; text++) {
        if (*text == '#') {
            write_digits(number, 1);
        } else {
            uart_write((uint8_t)*text);
        }
    }
}

void text_write(const char *text)
{
    text_write_number(text, 0);
}

void text_write_hex(uint32_t value, int32_t digits)
{
    const uint32_t last = value & 15;
    if (digits > 1) {
        text_write_hex(value >> 4, digits - 1);
    }
    uart_write((uint8_t)(last < 10 ? '0' + last : 'a' - 10 + last));
}

void text_write_milli(int32_t value)
{
    const uint32_t size = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    if (value < 0) {
        uart_write('-');
    }
    write_digits(size / 1000, 1);
    uart_write('.');
    write_digits(size % 1000, 3);
}
