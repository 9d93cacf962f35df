#ifndef EDGELOOP_STACK_H
#define EDGELOOP_STACK_H

#include <stdint.h>

/* Bytes of the stack that were ever written since reset. */
uint32_t stack_bytes_used(void);
uint32_t stack_bytes_total(void);

#endif
