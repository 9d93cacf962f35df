#include "edgeloop_kernels.h"
#include "fixed_point.h"
#include "memory.h"

static int32_t int16_of(int32_t x)
{
    return el_clamp(x, INT16_MIN, INT16_MAX);
}

static int32_t product(const struct el_factor *by, int32_t a, int32_t b)
{
    return el_scale(a * b, by->multiplier, by->shift);
}

static int32_t dot(const int8_t *weights, const int8_t *values, int32_t count, int32_t sum)
{
    for (int32_t i = 0; i < count; i++) {
        sum += weights[i] * values[i];
    }
    return sum;
}

/* What a gate takes: 12 fractional bits. */
static int32_t gate_input(const struct el_lstm *layer, const struct el_lstm_gate *gate, int32_t unit, const int8_t *input,
                          const int8_t *hidden)
{
    const int32_t from_input =
        dot(gate->input_weights + unit * layer->depth, input, layer->depth, gate->input_bias[unit]);
    const int32_t from_hidden =
        dot(gate->recurrent_weights + unit * layer->units, hidden, layer->units, gate->recurrent_bias[unit]);
    return int16_of(int16_of(el_scale(from_input, gate->input.multiplier, gate->input.shift)) +
                    int16_of(el_scale(from_hidden, gate->recurrent.multiplier, gate->recurrent.shift)));
}

/* sigmoid(x) for x with 12 fractional bits, with 15 of them. An entry of the table is 1/24, three times x so many 512ths. */
static int32_t sigmoid(const uint16_t *table, int32_t x)
{
    const uint32_t size = (uint32_t)(x < 0 ? -3 * x : 3 * x);
    const uint32_t at = size >> 9;
    uint32_t result = 0x7FFFu << 10;
    if (at < 255) {
        result = ((uint32_t)table[at] << 9) + (size & 0x1FF) * (uint32_t)(table[at + 1] - table[at]);
    }
    result = x >= 0 ? result + (1 << 9) : (1u << 25) - result + (1 << 9) - 1;
    return (int32_t)(result >> 10);
}

/* tanh(x) = 2 sigmoid(2x) - 1 for 3x with 12 fractional bits, with 15 of them. */
static int32_t tanh_of_third(const uint16_t *table, int32_t three_x)
{
    const uint32_t size = (uint32_t)(three_x < 0 ? -three_x : three_x);
    const uint32_t at = size >> 8;
    int32_t result = 0xFFFF << 8;
    if (at < 255) {
        result = (int32_t)(((uint32_t)table[at] << 8) + (size & 0xFF) * (uint32_t)(table[at + 1] - table[at]));
    }
    result = three_x >= 0 ? result - (1 << 23) + (1 << 7) : -result + (1 << 23) + (1 << 7) - 1;
    return result >> 8;
}

/* Three times the cell with 12 fractional bits. */
static int32_t three_cells(int32_t cell, int32_t exponent)
{
    return exponent >= 0 ? cell * (3 << exponent) : (cell * 3 + (1 << (-exponent - 1))) >> -exponent;
}

static int8_t unit_output(const struct el_lstm *layer, int32_t unit, const int8_t *input, const int8_t *hidden,
                          el_int16 *cell)
{
    const uint16_t *table = layer->sigmoid;
    const int32_t forget = sigmoid(table, gate_input(layer, &layer->forget_gate, unit, input, hidden));
    const int32_t take = sigmoid(table, gate_input(layer, &layer->input_gate, unit, input, hidden));
    const int32_t fresh = tanh_of_third(table, 3 * gate_input(layer, &layer->cell_gate, unit, input, hidden));
    const int32_t show = sigmoid(table, gate_input(layer, &layer->output_gate, unit, input, hidden));
    int32_t kept = int16_of(int16_of(product(&layer->forget_cell, forget, cell[unit])) +
                            int16_of(product(&layer->input_cell, take, fresh)));
    if (layer->cell_clip > 0) {
        kept = el_clamp(kept, -layer->cell_clip, layer->cell_clip);
    }
    cell[unit] = (int16_t)kept;
    const int32_t shown = tanh_of_third(table, three_cells(kept, layer->cell_exponent));
    const int32_t value = product(&layer->hidden, shown, show) + layer->hidden_zero_point;
    return (int8_t)el_clamp(value, INT8_MIN, INT8_MAX);
}

void el_lstm(const struct el_lstm *layer, const int8_t *input, int8_t *output, int8_t *hidden, int8_t *cell)
{
    for (int32_t step = 0; step < layer->steps; step++) {
        for (int32_t unit = 0; unit < layer->units; unit++) {
            output[unit] = unit_output(layer, unit, input, hidden, (el_int16 *)cell);
        }
        el_copy(hidden, output, layer->units);
        input += layer->depth;
        output += layer->units;
    }
}
