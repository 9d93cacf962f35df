/* CMSDK APB UART. */
#ifndef EDGELOOP_UART_H
#define EDGELOOP_UART_H

#include <stdint.h>

void uart_start(void);
uint8_t uart_read(void);
void uart_write(uint8_t byte);

#endif
