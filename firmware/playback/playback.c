#include "playback.h"

#include "board.h"
#include "text.h"

struct uart {
    volatile uint32_t data;
    volatile uint32_t state;
    volatile uint32_t control;
    volatile uint32_t interrupt;
    volatile uint32_t baud_divider;
};

/* The linker script says where. */
extern struct uart __sensor_uart;
#define STATE_RX_FULL 2u
#define CONTROL_RX_ENABLE 2u
#define BAUD_DIVIDER (BOARD_PERIPHERAL_HZ / 115200u)
#define FLAG 0x7Eu
#define CRC_START 0xFFFFu
#define CRC_POLYNOMIAL 0x1021u

static uint8_t payload[255];
static uint32_t length;
static uint32_t taken;
static uint32_t next_sequence;
static uint32_t crc;
static uint32_t whole, lost, damaged;

/* Not inlined: five places call it. */
__attribute__((noinline)) static uint32_t read_byte(void)
{
    while ((__sensor_uart.state & STATE_RX_FULL) == 0) {
    }
    const uint32_t byte = __sensor_uart.data & 0xFFu;
    crc ^= byte << 8;
    for (int bit = 0; bit < 8; bit++) {
        crc = (crc & 0x8000u) != 0 ? (crc << 1) ^ CRC_POLYNOMIAL : crc << 1;
    }
    crc &= 0xFFFFu;
    return byte;
}

static void start(void)
{
    __sensor_uart.baud_divider = BAUD_DIVIDER;
    __sensor_uart.control = CONTROL_RX_ENABLE;
    /* As in uart.c: QEMU only looks for input after a read. */
    (void)__sensor_uart.data;
}

/* Reads up to the end of a whole frame. */
static void receive(void)
{
    for (;;) {
        while (read_byte() != FLAG) {
        }
        crc = CRC_START;
        length = read_byte();
        uint32_t sequence = read_byte() << 8;
        sequence |= read_byte();
        for (uint32_t i = 0; i < length; i++) {
            payload[i] = (uint8_t)read_byte();
        }
        (void)read_byte();
        (void)read_byte();
        /* The CRC of data that its own CRC follows is 0. */
        if (crc == 0) {
            lost += (sequence - next_sequence) & 0xFFFFu;
            next_sequence = (sequence + 1u) & 0xFFFFu;
            break;
        }
        damaged++;
    }
    taken = 0;
}

int playback_move(int8_t *window, uint32_t bytes, uint32_t hop)
{
    static int started;
    if (!started) {
        start();
        started = 1;
    }
    if (next_sequence == 0) {
        whole = lost = damaged = 0;
    }
    for (uint32_t i = hop; i < bytes; i++) {
        window[i - hop] = window[i];
    }
    for (uint32_t i = bytes - hop; i < bytes; i++) {
        if (taken == length) {
            receive();
            if (length == 0) {
                next_sequence = 0;
                return 0;
            }
            whole++;
        }
        window[i] = (int8_t)payload[taken++];
    }
    return 1;
}

void playback_show(void)
{
    text_write_number("m-frames-[whole=#", whole);
    text_write_number(" lost=#", lost);
    text_write_number(" damaged=#]\r\n", damaged);
}
