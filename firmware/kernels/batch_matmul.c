#include "edgeloop_kernels.h"
#include "fixed_point.h"

static int8_t element(const struct el_batch_matmul *layer, const int8_t *a, const int8_t *b)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < layer->depth; i++) {
        sum += (*a - layer->a.zero_point) * (*b - layer->b.zero_point);
        a += layer->a.depth_stride;
        b += layer->b.depth_stride;
    }
    sum = el_scale(sum, layer->multiplier, layer->shift) + layer->output_zero_point;
    return (int8_t)el_clamp(sum, INT8_MIN, INT8_MAX);
}

static int8_t *product(const struct el_batch_matmul *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    for (int32_t row = 0; row < layer->rows; row++) {
        for (int32_t column = 0; column < layer->columns; column++) {
            *output++ = element(layer, a + row * layer->a.outer_stride, b + column * layer->b.outer_stride);
        }
    }
    return output;
}

void el_batch_matmul(const struct el_batch_matmul *layer, const int8_t *a, const int8_t *b, int8_t *output)
{
    for (int32_t i = 0; i < layer->batches[0]; i++) {
        for (int32_t j = 0; j < layer->batches[1]; j++) {
            for (int32_t k = 0; k < layer->batches[2]; k++) {
                const int32_t *const by_a = layer->a.batch_stride;
                const int32_t *const by_b = layer->b.batch_stride;
                output = product(layer, a + i * by_a[0] + j * by_a[1] + k * by_a[2],
                                 b + i * by_b[0] + j * by_b[1] + k * by_b[2], output);
            }
        }
    }
}
