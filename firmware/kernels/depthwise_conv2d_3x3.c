#include "requantise.h"

#if EL_DSP

/* A tile of one channel's input, widened to 16 bits, lies on the stack. Its lines run along the longer axis of the image
 * and have a fixed pitch, so that all nine taps are at constant distances. */
#define PITCH 64
#define LINES 14
/* Outputs come in pairs: the second of the last pair may look past its line, and be thrown away. */
#define LINE_VALUES (PITCH - 2)
#define SUMS 128

/* One axis of the image. Steps lead from one value to the next, in bytes; a tap's step in channels of weights. */
struct axis {
    int32_t inputs;
    int32_t outputs;
    int32_t stride;
    int32_t pad;
    int32_t input_step;
    int32_t output_step;
    int32_t tap_step;
    /* The part that a tile holds: `count` outputs from `output` on, and the inputs that they see, from `input` on. Of
     * those, the ones from `first` to `last` are inside the image. */
    int32_t output;
    int32_t count;
    int32_t input;
    int32_t first;
    int32_t last;
};

/* What no layer of the model has costs nothing. */
static int32_t stride_of(const struct axis *axis)
{
    return EL_DEPTHWISE_STRIDES ? axis->stride : 1;
}

/* Begins a tile that has room for so many inputs at an output. */
EL_SMALL static void begin_tile(struct axis *axis, int32_t output, int32_t room)
{
    const int32_t fitting = (room - 3) / stride_of(axis) + 1;
    const int32_t left = axis->outputs - output;
    axis->output = output;
    axis->count = !EL_DEPTHWISE_TILES || left < fitting ? left : fitting;
    axis->input = output * stride_of(axis) - axis->pad;
    axis->first = axis->input < 0 ? -axis->input : 0;
    const int32_t seen = (axis->count - 1) * stride_of(axis) + 3;
    axis->last = seen < axis->inputs - axis->input ? seen : axis->inputs - axis->input;
}

static void widen(const int8_t *from, int32_t step, int32_t count, int32_t zero_point, int16_t *to)
{
#pragma GCC unroll 2
    for (; count > 0; count--, from += step) {
        *to++ = (int16_t)(*from - zero_point);
    }
}

/* Taps 0 and 1, and taps 1 and 2, of each line, as halfwords. */
struct taps {
    int32_t near[3];
    int32_t far[3];
};

static struct taps taps_of(const int8_t *weights, int32_t along, int32_t across)
{
    struct taps taps;
    for (int32_t line = 0; line < 3; line++, weights += across) {
        taps.near[line] = el_lower_halves(weights[0], weights[along]);
        taps.far[line] = el_lower_halves(weights[along], weights[2 * along]);
    }
    return taps;
}

/* One line of outputs where the window moves by one: neighbours share what they load. Written out, because all of it
 * has to stay in registers: r4-r6 are the near taps, r7-r9 the far ones, r2 and r3 the inputs, r10 and r11 the sums. */
#define IN_A_REGISTER __attribute__((unused))
__attribute__((naked)) static void sum_pairs(IN_A_REGISTER const int16_t *from, IN_A_REGISTER const struct taps *taps,
                                             IN_A_REGISTER int32_t count, IN_A_REGISTER int32_t *sums,
                                             IN_A_REGISTER int32_t bias)
{
    __asm volatile("push {r4-r11, lr}\n"
                   "ldm r1, {r4-r9}\n"
                   "ldr r12, [sp, #36]\n"
                   "mov r1, r3\n"
                   "add lr, r1, r2, lsl #2\n"
                   "1:\n"
                   "ldrd r2, r3, [r0], #4\n"
                   "smlad r10, r2, r4, r12\n"
                   "smlatb r11, r2, r4, r12\n"
                   "smlabt r10, r3, r7, r10\n"
                   "smlad r11, r3, r7, r11\n"
                   "ldrd r2, r3, [r0, #124]\n"
                   "smlad r10, r2, r5, r10\n"
                   "smlatb r11, r2, r5, r11\n"
                   "smlabt r10, r3, r8, r10\n"
                   "smlad r11, r3, r8, r11\n"
                   "ldrd r2, r3, [r0, #252]\n"
                   "smlad r10, r2, r6, r10\n"
                   "smlatb r11, r2, r6, r11\n"
                   "smlabt r10, r3, r9, r10\n"
                   "smlad r11, r3, r9, r11\n"
                   "strd r10, r11, [r1], #8\n"
                   "cmp r1, lr\n"
                   "blo 1b\n"
                   "pop {r4-r11, pc}\n");
}

static void sum_line(const int16_t *from, const struct taps *taps, int32_t stride, int32_t count, int32_t *sums,
                     int32_t bias)
{
    for (; count > 0; count--, from += stride) {
        int32_t sum = bias;
        for (int32_t line = 0; line < 3; line++) {
            sum = __smlad(el_word_at(from + line * PITCH), taps->near[line], sum);
            sum = __smlabt(from[line * PITCH + 2], taps->far[line], sum);
        }
        *sums++ = sum;
    }
}

static void requantise_line(const struct el_requantisation *to, int32_t channel, const int32_t *sums, int32_t count,
                            int8_t *output, int32_t stride)
{
    if (el_fits_fast_steps(to, channel)) {
        const struct el_fast_steps steps = el_fast_steps(to, channel);
        for (; count > 0; count--, output += stride) {
            *output = el_requantise_fast(steps, *sums++);
        }
        return;
    }
    for (; count > 0; count--, output += stride) {
        *output = el_requantise(to, channel, *sums++);
    }
}

/* All channels of one tile. Not inlined: with two axes known, compilers would choose member by member. */
__attribute__((noinline)) EL_SMALL static void convolve(const struct el_depthwise_conv2d *layer,
                                                        const struct axis *along, const struct axis *across,
                                                        const int8_t *input, int8_t *output)
{
    int16_t tile[LINES * PITCH] EL_ALIGNED;
    int32_t sums[SUMS + 2] EL_ALIGNED;

    /* The padding, which no channel overwrites. */
    for (int32_t i = 0; i < LINES * PITCH; i++) {
        tile[i] = 0;
    }
    for (int32_t channel = 0; channel < layer->output.channels; channel++) {
        const int8_t *const from = input + (EL_DEPTHWISE_MULTIPLIER ? channel / layer->depth_multiplier : channel) +
                                   (along->input + along->first) * along->input_step;
        for (int32_t line = across->first; line < across->last; line++) {
            widen(from + (across->input + line) * across->input_step, along->input_step, along->last - along->first,
                  layer->input_zero_point, tile + line * PITCH + along->first);
        }
        const struct taps taps = taps_of(layer->weights + channel, along->tap_step, across->tap_step);
        const int32_t bias = el_bias(&layer->requantisation, channel);
        int8_t *to = output + across->output * across->output_step + along->output * along->output_step + channel;
        for (int32_t line = 0; line < across->count; line++, to += across->output_step) {
            const int16_t *const corner = tile + line * stride_of(across) * PITCH;
            if (stride_of(along) == 1) {
                sum_pairs(corner, &taps, along->count, sums, bias);
            } else {
                sum_line(corner, &taps, stride_of(along), along->count, sums, bias);
            }
            requantise_line(&layer->requantisation, channel, sums, along->count, to, along->output_step);
        }
    }
}

EL_SMALL void el_depthwise_conv2d_3x3(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output)
{
    const struct el_shape *const in = &layer->input;
    const struct el_shape *const out = &layer->output;
    const struct el_window *const window = &layer->window;
    struct axis axes[2];

    axes[0].inputs = in->width;
    axes[0].outputs = out->width;
    axes[0].stride = window->stride_width;
    axes[0].pad = window->pad_left;
    axes[0].input_step = in->channels;
    axes[0].output_step = out->channels;
    axes[0].tap_step = out->channels;
    axes[1].inputs = in->height;
    axes[1].outputs = out->height;
    axes[1].stride = window->stride_height;
    axes[1].pad = window->pad_top;
    axes[1].input_step = in->width * in->channels;
    axes[1].output_step = out->width * out->channels;
    axes[1].tap_step = 3 * out->channels;
    const int32_t is_tall = out->height > out->width;
    struct axis *const along = &axes[is_tall];
    struct axis *const across = &axes[!is_tall];

    int32_t line = 0;
    do {
        begin_tile(across, line, LINES);
        int32_t at = 0;
        do {
            begin_tile(along, at, LINE_VALUES);
            convolve(layer, along, across, input, output);
            at += along->count;
        } while (EL_DEPTHWISE_TILES && at < along->outputs);
        line += across->count;
    } while (EL_DEPTHWISE_TILES && line < across->outputs);
}

#else

void el_depthwise_conv2d_3x3(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output)
{
    el_depthwise_conv2d(layer, input, output);
}

#endif
