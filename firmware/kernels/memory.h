/* Wider types that lie in the arena's bytes. */
#ifndef EDGELOOP_MEMORY_H
#define EDGELOOP_MEMORY_H

#include <stdint.h>

typedef int16_t __attribute__((may_alias)) el_int16;
typedef int32_t __attribute__((may_alias)) el_int32;
typedef float __attribute__((may_alias)) el_float;

#endif
