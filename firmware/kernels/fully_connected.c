#include "edgeloop_kernels.h"

/* A dense layer is a convolution whose window is one pixel and sees `depth` channels. */
void el_fully_connected(const struct el_fully_connected *layer, const int8_t *input, int8_t *output)
{
    const struct el_conv2d convolution = {
        .input = {1, layer->rows, layer->depth},
        .output = {1, layer->rows, layer->units},
        .window = {1, 1, 1, 1, 1, 1, 0, 0},
        .groups = 1,
        .weights = layer->weights,
        .bias = layer->bias,
        .requantisation = layer->requantisation,
    };
    el_conv2d(&convolution, input, output);
}
