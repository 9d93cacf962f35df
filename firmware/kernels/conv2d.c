#include "matrix.h"
#include "requantise.h"

/* What is kept on the stack: widened inputs, up to CHUNK values of a window at a time, and the sums of up to TILE
 * channels. A larger window takes several chunks. */
#define CHUNK (EL_CONV_WINDOW < 256 ? EL_CONV_WINDOW : 256)
#define SEVERAL_CHUNKS (EL_CONV_WINDOW > CHUNK)
/* Whether some rows of windows do not lie side by side. */
#define SEVERAL_RUNS (EL_CONV_GROUPS || EL_CONV_DILATION)
#define LARGEST_TILE (EL_CONV_WINDOW > 128 ? 32 : 64)
#define SEVERAL_TILES (EL_CONV_CHANNELS > LARGEST_TILE)
#define TILE (SEVERAL_TILES ? LARGEST_TILE : (EL_CONV_CHANNELS + 1) / 2 * 2)

/* What one output pixel sees. A run is what lies side by side in the input and in the weights: a row of the window, or
 * a single tap where columns are dilated or channels grouped. */
struct view {
    int32_t top;
    int32_t left;
    int32_t depth;
    int32_t taps_in_run;
    int32_t run;
};

/* What no layer of the model has costs nothing. */
static int32_t groups_of(const struct el_conv2d *layer)
{
    return EL_CONV_GROUPS ? layer->groups : 1;
}

static int32_t dilation_height_of(const struct el_conv2d *layer)
{
    return EL_CONV_DILATION ? layer->window.dilation_height : 1;
}

static int32_t dilation_width_of(const struct el_conv2d *layer)
{
    return EL_CONV_DILATION ? layer->window.dilation_width : 1;
}

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t larger(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t padded_depth(int32_t depth)
{
    return (depth + EL_DEPTH_STEP - 1) & -EL_DEPTH_STEP;
}

static int8_t *copy(const int8_t *from, int32_t count, int8_t *to)
{
#if EL_DSP
    for (; count >= 4; count -= 4, from += 4, to += 4) {
        el_put_word(to, el_word_at(from));
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

static struct view view_of(const struct el_conv2d *layer, int32_t pixel)
{
    const struct el_window *const window = &layer->window;
    const int32_t y = pixel / layer->output.width;
    const int32_t x = pixel - y * layer->output.width;
    const int32_t depth = layer->input.channels / groups_of(layer);
    const int32_t taps = groups_of(layer) == 1 && dilation_width_of(layer) == 1 ? window->width : 1;
    const struct view view = {
        y * window->stride_height - window->pad_top,
        x * window->stride_width - window->pad_left,
        depth,
        taps,
        taps * depth,
    };
    return view;
}

/* Values [begin, end) of the window, padding included. */
static void gather(const struct el_conv2d *layer, const struct view *view, const int8_t *input, int32_t begin,
                   int32_t end, int8_t *to)
{
    const struct el_window *const window = &layer->window;
    const struct el_shape *const shape = &layer->input;

    for (int32_t y = 0; y < window->height; y++) {
        const int32_t in_y = view->top + y * dilation_height_of(layer);
        int32_t x = 0;
        do {
            const int32_t in_x = view->left + x * dilation_width_of(layer);
            const int32_t first = SEVERAL_CHUNKS ? larger(begin, 0) : 0;
            const int32_t last = SEVERAL_CHUNKS ? smaller(end, view->run) : view->run;
            int32_t from = last;
            int32_t until = last;
            if (el_lies_inside(in_y, shape->height)) {
                from = el_clamp(-in_x * view->depth, first, larger(first, last));
                until = el_clamp((shape->width - in_x) * view->depth, from, larger(from, last));
            }
            to = fill(layer->input_zero_point, from - first, to);
            to = copy(input + (in_y * shape->width + in_x) * shape->channels + from, until - from, to);
            to = fill(layer->input_zero_point, last - until, to);
            begin -= view->run;
            end -= view->run;
            x += view->taps_in_run;
        } while (SEVERAL_RUNS && x < window->width);
    }
}

/* Whether rows of the window can be read where they are: all of it lies inside, in words. */
static int32_t reads_in_place(const struct el_conv2d *layer, const struct view *view)
{
    const struct el_window *const window = &layer->window;
    return view->taps_in_run == window->width && view->run % EL_DEPTH_STEP == 0 && view->top >= 0 && view->left >= 0 &&
           view->top + (window->height - 1) * dilation_height_of(layer) < layer->input.height &&
           view->left + window->width <= layer->input.width;
}

/* Widens values [begin, end) of the window of one output pixel. */
static void widen(const struct el_conv2d *layer, const int8_t *input, int32_t pixel, int32_t begin, int32_t end,
                  int32_t *to)
{
    const struct view view = view_of(layer, pixel);
    int8_t values[CHUNK];

    if (!reads_in_place(layer, &view)) {
        gather(layer, &view, input, begin, end, values);
        el_widen(values, padded_depth(end - begin), layer->input_zero_point, to);
        return;
    }
    const int8_t *row = input + (view.top * layer->input.width + view.left) * layer->input.channels;
    for (int32_t y = 0; y < layer->window.height; y++, begin -= view.run, end -= view.run) {
        const int32_t first = SEVERAL_CHUNKS ? larger(begin, 0) : 0;
        const int32_t count = SEVERAL_CHUNKS ? smaller(end, view.run) - first : view.run;
        if (count > 0) {
            to = el_widen(row + first, count, layer->input_zero_point, to);
        }
        row += dilation_height_of(layer) * layer->input.width * layer->input.channels;
    }
}

/* As many whole rows of the window as fit into a chunk, if they can be told apart by words. */
static int32_t chunk_of(const struct el_conv2d *layer)
{
    const int32_t run = layer->window.width * layer->input.channels;
    return run <= CHUNK && run % EL_DEPTH_STEP == 0 ? CHUNK / run * run : CHUNK;
}

static void begin_with_bias(const struct el_requantisation *to, int32_t channel, int32_t channels, int32_t *sums)
{
    do {
        const int32_t value = el_bias(to, channel++);
        for (int32_t row = 0; row < EL_ROWS; row++) {
            *sums++ = value;
        }
        channels--;
    } while (channels > 0);
}

/* Adds the products of a chunk to the sums of `channels` channels. A single pixel is the last row: where it has no code
 * of its own, the other rows are whatever lies on the stack, and so are their sums. */
static void multiply(const int32_t *rows, int32_t pixels, const int8_t *weights, int32_t pair_bytes, int32_t depth,
                     int32_t channels, int32_t *sums)
{
    const int32_t is_single = EL_CONV_SINGLE_PIXELS && pixels == 1;
    const int32_t first = is_single ? EL_ROWS - 1 : 0;
    void (*const add)(const int32_t *, const int8_t *, int32_t, int32_t *) =
        is_single ? el_multiply_row : el_multiply_rows;
    do {
        add(rows + first, weights, depth, sums + first);
        weights += pair_bytes;
        sums += 2 * EL_ROWS;
        channels -= 2;
    } while (channels > 0);
}

/* EL_ROWS output pixels from `pixel` on, or one, the channels of one group. `input`, `weights` and `output` begin at
 * the group. */
static void convolve(const struct el_conv2d *layer, const int8_t *input, int32_t pixel, int32_t pixels,
                     int32_t first_channel, const int8_t *weights, int8_t *output)
{
    const int32_t depth = layer->window.height * layer->window.width * (layer->input.channels / groups_of(layer));
    const int32_t channels = layer->output.channels / groups_of(layer);
    const int32_t pair_bytes = 2 * padded_depth(depth);
    const int32_t chunk = chunk_of(layer);
    int32_t rows[CHUNK / 2 * EL_ROWS];
    int32_t sums[TILE * EL_ROWS];

    int32_t done = 0;
    do {
        const int32_t tile = SEVERAL_TILES ? smaller(TILE, channels - done) : channels;
        begin_with_bias(&layer->requantisation, first_channel + done, tile, sums);
        int32_t begin = 0;
        do {
            const int32_t end = SEVERAL_CHUNKS ? smaller(begin + chunk, depth) : depth;
            if (done == 0 || (SEVERAL_CHUNKS && depth > chunk)) {
                for (int32_t row = 0; row < pixels; row++) {
                    widen(layer, input, pixel + row, begin, end, rows + EL_ROWS - pixels + row);
                }
            }
            multiply(rows, pixels, weights + 2 * begin, pair_bytes, padded_depth(end - begin), tile, sums);
            begin += chunk;
        } while (SEVERAL_CHUNKS && begin < depth);
        /* All rows of a single pixel go to the same place, where the last one, which is the pixel, stays. */
        el_requantise_rows(&layer->requantisation, first_channel + done, tile, sums, output + done,
                           pixels > 1 ? layer->output.channels : 0);
        weights += TILE / 2 * pair_bytes;
        done += TILE;
    } while (SEVERAL_TILES && done < channels);
}

EL_SMALL void el_conv2d(const struct el_conv2d *layer, const int8_t *input, int8_t *output)
{
    const int32_t pixels = layer->output.height * layer->output.width;
    const int32_t depth = layer->input.channels / groups_of(layer);
    const int32_t channels = layer->output.channels / groups_of(layer);
    const int32_t group_bytes =
        (channels + 1) / 2 * 2 * padded_depth(layer->window.height * layer->window.width * depth);

    int32_t together = EL_ROWS;
    for (int32_t pixel = 0; pixel < pixels; pixel += together) {
        together = pixels - pixel < EL_ROWS ? 1 : EL_ROWS;
        for (int32_t group = 0; group < groups_of(layer); group++) {
            convolve(layer, input + group * depth, pixel, together, group * channels,
                     layer->weights + group * group_bytes,
                     output + pixel * layer->output.channels + group * channels);
        }
    }
}
