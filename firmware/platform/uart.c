#include "uart.h"

#include "board.h"

struct uart {
    volatile uint32_t data;
    volatile uint32_t state;
    volatile uint32_t control;
    volatile uint32_t interrupt;
    volatile uint32_t baud_divider;
};

/* The linker script says where: a symbol, so that one address leads to all registers. */
extern struct uart __uart;
#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define CONTROL_TX_ENABLE 1u
#define CONTROL_RX_ENABLE 2u
#define BAUD_DIVIDER (BOARD_PERIPHERAL_HZ / 115200u)

void uart_start(void)
{
    __uart.baud_divider = BAUD_DIVIDER;
    __uart.control = CONTROL_TX_ENABLE | CONTROL_RX_ENABLE;
    /* Drops what arrived before. QEMU, too, only looks for input again after a read. */
    (void)__uart.data;
}

uint8_t uart_read(void)
{
    while ((__uart.state & STATE_RX_FULL) == 0) {
    }
    return (uint8_t)__uart.data;
}

void uart_write(uint8_t byte)
{
    while ((__uart.state & STATE_TX_FULL) != 0) {
    }
    __uart.data = byte;
}
