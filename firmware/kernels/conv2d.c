#include "matrix.h"
#include "requantise.h"
#include "span.h"

/* What is kept on the stack: widened inputs, up to CHUNK values of a window at a time, and the sums of up to TILE
 * channels. A larger window takes several chunks. */
#define CHUNK 256
#define TILE 32

struct place {
    int32_t y;
    int32_t x;
};

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t padded_depth(int32_t depth)
{
    return (depth + EL_DEPTH_STEP - 1) / EL_DEPTH_STEP * EL_DEPTH_STEP;
}

static int8_t *copy(const int8_t *from, int32_t count, int8_t *to)
{
#if EL_DSP
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        const int32_t word = el_word_at(from);
        __builtin_memcpy(to, &word, sizeof word);
    }
#endif
    for (; count > 0; count--) {
        *to++ = *from++;
    }
    return to;
}

static int8_t *fill(int32_t value, int32_t count, int8_t *to)
{
    for (; count > 0; count--) {
        *to++ = (int8_t)value;
    }
    return to;
}

/* Values [begin, end) of what a window at `place` sees of one group's channels, padding included. Where a row of the
 * window is one stretch of bytes it is copied at once, else tap by tap. */
static void gather(const struct el_conv2d *layer, const int8_t *input, struct place place, int32_t begin, int32_t end,
                   int8_t *to)
{
    const struct el_window *window = &layer->window;
    const int32_t depth = layer->input.channels / layer->groups;
    const int32_t whole_rows = layer->groups == 1 && window->dilation_width == 1;
    const int32_t taps = whole_rows ? window->width : 1;
    const int32_t top = place.y * window->stride_height - window->pad_top;
    const int32_t left = place.x * window->stride_width - window->pad_left;
    const int32_t run = taps * depth;

    for (int32_t y = 0; y < window->height; y++) {
        const int32_t in_y = top + y * window->dilation_height;
        for (int32_t x = 0; x < window->width; x += taps, begin -= run, end -= run) {
            if (end <= 0) {
                return;
            }
            if (begin >= run) {
                continue;
            }
            const int32_t first = begin > 0 ? begin : 0;
            const int32_t last = smaller(end, run);
            const int32_t in_x = left + x * window->dilation_width;
            const struct span seen = span_at(in_x, taps, 1, layer->input.width);
            if (in_y < 0 || in_y >= layer->input.height) {
                to = fill(layer->input_zero_point, last - first, to);
                continue;
            }
            const int32_t from = el_clamp(seen.first * depth, first, last);
            const int32_t until = el_clamp(seen.last * depth, from, last);
            to = fill(layer->input_zero_point, from - first, to);
            to = copy(input + (in_y * layer->input.width + in_x) * layer->input.channels + from, until - from, to);
            to = fill(layer->input_zero_point, last - until, to);
        }
    }
}

/* Widens values [begin, end) of the windows of EL_ROWS output pixels from `pixel` on; pixels that there are not repeat
 * the last one. */
static void widen(const struct el_conv2d *layer, const int8_t *input, int32_t pixel, int32_t begin, int32_t end,
                  int32_t *rows)
{
    const struct el_window *window = &layer->window;
    const int32_t last = layer->output.height * layer->output.width - 1;
    const int32_t plain = window->height == 1 && window->width == 1 && window->pad_top == 0 && window->pad_left == 0 &&
                          (end - begin) % EL_DEPTH_STEP == 0;

    for (int32_t row = 0; row < EL_ROWS; row++) {
        const int32_t at = smaller(pixel + row, last);
        const struct place place = {at / layer->output.width, at % layer->output.width};
        int8_t values[CHUNK];
        const int8_t *from = values;
        if (plain) {
            from = input + (place.y * window->stride_height * layer->input.width + place.x * window->stride_width) *
                               layer->input.channels + begin;
        } else {
            gather(layer, input, place, begin, end, values);
        }
        el_widen(from, padded_depth(end - begin), rows + row);
    }
}

static void requantise(const struct el_conv2d *layer, int32_t channel, int32_t channels, const int32_t *sums,
                       int32_t pixels, int8_t *output)
{
    const struct el_requantisation *const to = &layer->requantisation;
    const int32_t stride = layer->output.channels;

    for (; channels > 0; channels--, channel++, sums += EL_ROWS, output++) {
#if EL_DSP
        if (pixels == EL_ROWS && el_fits_fast_steps(to, channel)) {
            const struct el_fast_steps steps = el_fast_steps(to, channel);
            output[0] = el_requantise_fast(steps, sums[0]);
            output[stride] = el_requantise_fast(steps, sums[1]);
            output[2 * stride] = el_requantise_fast(steps, sums[2]);
            output[3 * stride] = el_requantise_fast(steps, sums[3]);
            continue;
        }
#endif
        el_requantise_channel(to, channel, sums, pixels, output, stride);
    }
}

/* EL_ROWS output pixels from `pixel` on, the channels of one group. `input`, `weights` and `output` begin at the group. */
static void multiply(const struct el_conv2d *layer, const int8_t *input, int32_t pixel, int32_t first_channel,
                     const int8_t *weights, int8_t *output)
{
    const int32_t depth = layer->window.height * layer->window.width * (layer->input.channels / layer->groups);
    const int32_t channels = layer->output.channels / layer->groups;
    const int32_t left = layer->output.height * layer->output.width - pixel;
    int32_t rows[CHUNK / 2 * EL_ROWS];
    int32_t sums[TILE * EL_ROWS];

    for (int32_t done = 0; done < channels; done += TILE) {
        const int32_t tile = smaller(TILE, channels - done);
        const int32_t *const bias = layer->bias + first_channel + done;
        for (int32_t c = 0; c < (tile + 1) / 2 * 2; c++) {
            for (int32_t row = 0; row < EL_ROWS; row++) {
                sums[c * EL_ROWS + row] = c < tile ? bias[c] : 0;
            }
        }
        for (int32_t begin = 0; begin < depth; begin += CHUNK) {
            const int32_t end = smaller(begin + CHUNK, depth);
            if (done == 0 || depth > CHUNK) {
                widen(layer, input, pixel, begin, end, rows);
            }
            const int8_t *pair = weights + 2 * begin;
            for (int32_t c = 0; c < tile; c += 2, pair += 2 * padded_depth(depth)) {
                if (left > 1) {
                    el_multiply_rows(rows, pair, padded_depth(end - begin), sums + c * EL_ROWS);
                } else {
                    el_multiply_row(rows, pair, padded_depth(end - begin), sums + c * EL_ROWS);
                }
            }
        }
        requantise(layer, first_channel + done, tile, sums, smaller(left, EL_ROWS), output + done);
        weights += TILE * padded_depth(depth);
    }
}

void el_conv2d(const struct el_conv2d *layer, const int8_t *input, int8_t *output)
{
    const int32_t pixels = layer->output.height * layer->output.width;
    const int32_t depth = layer->input.channels / layer->groups;
    const int32_t channels = layer->output.channels / layer->groups;
    const int32_t group_weights =
        (channels + 1) / 2 * 2 * padded_depth(layer->window.height * layer->window.width * depth);

    for (int32_t pixel = 0; pixel < pixels; pixel += EL_ROWS) {
        for (int32_t group = 0; group < layer->groups; group++) {
            multiply(layer, input + group * depth, pixel, group * channels, layer->weights + group * group_weights,
                     output + pixel * layer->output.channels + group * channels);
        }
    }
}
