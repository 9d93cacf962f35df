#ifndef EDGELOOP_SPAN_H
#define EDGELOOP_SPAN_H

#include <stdint.h>

/* Where a window meets the input along one axis: taps [first, last) read it, the others read padding. */
struct span {
    int32_t start;
    int32_t first;
    int32_t last;
};

static inline struct span span_at(int32_t start, int32_t taps, int32_t dilation, int32_t limit)
{
    struct span span = {start, 0, taps};
    while (span.first < taps && start + span.first * dilation < 0) {
        span.first++;
    }
    while (span.last > span.first && start + (span.last - 1) * dilation >= limit) {
        span.last--;
    }
    return span;
}

#endif
