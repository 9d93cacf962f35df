#include "edgeloop_kernels.h"
#include "fixed_point.h"
#include "memory.h"

/* Beyond these a float is outside every type that is quantised to. */
#define FAR 1e9f

/* Rounds halves away from zero; what is no number becomes 0. */
static int32_t rounded(float x)
{
    if (x != x) {
        return 0;
    }
    if (x > FAR || x < -FAR) {
        return x > 0.0f ? (int32_t)FAR : -(int32_t)FAR;
    }
    const int32_t whole = (int32_t)x;
    const float rest = x - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

static int32_t quantised(const struct el_quantise *layer, const int8_t *input, int32_t at)
{
    const int32_t value = rounded(((const el_float *)input)[at] / layer->scale) + layer->zero_point;
    return el_clamp(value, layer->minimum, layer->maximum);
}

void el_quantise_to_int8(const struct el_quantise *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        output[i] = (int8_t)quantised(layer, input, i);
    }
}

void el_quantise_to_int16(const struct el_quantise *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        ((el_int16 *)output)[i] = (int16_t)quantised(layer, input, i);
    }
}

/* Exact, and so the same as in double: 24 bits of scale times 17 bits of value, rounded once. */
static float dequantised(const struct el_dequantise *layer, int32_t value)
{
    return layer->scale * (float)(value - layer->zero_point);
}

void el_dequantise_int8(const struct el_dequantise *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        ((el_float *)output)[i] = dequantised(layer, input[i]);
    }
}

void el_dequantise_uint8(const struct el_dequantise *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        ((el_float *)output)[i] = dequantised(layer, (uint8_t)input[i]);
    }
}

void el_dequantise_int16(const struct el_dequantise *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        ((el_float *)output)[i] = dequantised(layer, ((const el_int16 *)input)[i]);
    }
}

static int32_t requantised(const struct el_requantise_types *layer, int32_t value)
{
    const int32_t scaled = el_scale(value - layer->input_zero_point, layer->multiplier, layer->shift);
    return el_clamp(scaled + layer->output_zero_point, layer->minimum, layer->maximum);
}

void el_requantise_uint8_to_int8(const struct el_requantise_types *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        output[i] = (int8_t)requantised(layer, (uint8_t)input[i]);
    }
}

void el_requantise_int8_to_uint8(const struct el_requantise_types *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        output[i] = (int8_t)requantised(layer, input[i]);
    }
}

void el_requantise_int16_to_int8(const struct el_requantise_types *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        output[i] = (int8_t)requantised(layer, ((const el_int16 *)input)[i]);
    }
}

void el_requantise_int8_to_int16(const struct el_requantise_types *layer, const int8_t *input, int8_t *output)
{
    for (int32_t i = 0; i < layer->size; i++) {
        ((el_int16 *)output)[i] = (int16_t)requantised(layer, input[i]);
    }
}

EL_SMALL int32_t el_milli_float32(const int8_t *tensor, uint32_t element)
{
    return rounded(((const el_float *)tensor)[element] * 1000.0f);
}
