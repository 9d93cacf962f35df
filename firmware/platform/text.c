#include "text.h"

#include "uart.h"

static void write_digits(uint32_t value, int32_t at_least)
{
    char digits[10];
    int32_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0 || count < at_least);
    while (count > 0) {
        uart_write((uint8_t)digits[--count]);
    }
}

void text_write(const char *text)
{
    while (*text != '\0') {
        uart_write((uint8_t)*text++);
    }
}

void text_write_unsigned(uint32_t value)
{
    write_digits(value, 1);
}

void text_write_hex_byte(uint8_t value)
{
    static const char digits[] = "0123456789abcdef";
    uart_write((uint8_t)digits[value >> 4]);
    uart_write((uint8_t)digits[value & 15]);
}

void text_write_hex(uint32_t value)
{
    text_write("0x");
    for (int32_t shift = 24; shift >= 0; shift -= 8) {
        text_write_hex_byte((uint8_t)(value >> shift));
    }
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
