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
};

/* The part of an axis that a tile holds: `outputs` from `output` on, and the inputs that they see. Of those, the ones
 * from `first` to `last` are inside the image. */
struct stretch {
    int32_t output;
    int32_t outputs;
    int32_t input;
    int32_t first;
    int32_t last;
};

EL_SMALL static struct stretch stretch_from(const struct axis *axis, int32_t output, int32_t room)
{
    const int32_t fitting = (room - 3) / axis->stride + 1;
    const int32_t left = axis->outputs - output;
    const int32_t outputs = left < fitting ? left : fitting;
    const int32_t input = output * axis->stride - axis->pad;
    const int32_t seen = (outputs - 1) * axis->stride + 3;
    const struct stretch stretch = {
        output, outputs, input, input < 0 ? -input : 0, seen < axis->inputs - input ? seen : axis->inputs - input,
    };
    return stretch;
}

static void widen(const int8_t *from, int32_t step, int32_t count, int32_t zero_point, int16_t *to)
{
#pragma GCC unroll 4
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

/* All channels of one tile. */
EL_SMALL static void convolve(const struct el_depthwise_conv2d *layer, const struct axis *along,
                              const struct axis *across, const struct stretch *columns, const struct stretch *lines,
                              const int8_t *input, int8_t *output)
{
    int16_t tile[LINES * PITCH] EL_ALIGNED;
    int32_t sums[SUMS + 2] EL_ALIGNED;

    /* The padding, which no channel overwrites. */
    for (int32_t i = 0; i < LINES * PITCH; i++) {
        tile[i] = 0;
    }
    for (int32_t channel = 0; channel < layer->output.channels; channel++) {
        const int8_t *const from = input + channel / layer->depth_multiplier;
        for (int32_t line = lines->first; line < lines->last; line++) {
            widen(from + (lines->input + line) * across->input_step +
                      (columns->input + columns->first) * along->input_step,
                  along->input_step, columns->last - columns->first, layer->input_zero_point,
                  tile + line * PITCH + columns->first);
        }
        const struct taps taps = taps_of(layer->weights + channel, along->tap_step, across->tap_step);
        const int32_t bias = el_bias(&layer->requantisation, channel);
        int8_t *to = output + lines->output * across->output_step + columns->output * along->output_step + channel;
        for (int32_t line = 0; line < lines->outputs; line++, to += across->output_step) {
            const int16_t *const corner = tile + line * across->stride * PITCH;
            if (along->stride == 1) {
                sum_pairs(corner, &taps, columns->outputs, sums, bias);
            } else {
                sum_line(corner, &taps, along->stride, columns->outputs, sums, bias);
            }
            el_requantise_channel(&layer->requantisation, channel, sums, columns->outputs, to, along->output_step);
        }
    }
}

EL_SMALL void el_depthwise_conv2d_3x3(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output)
{
    const struct el_shape *const in = &layer->input;
    const struct el_shape *const out = &layer->output;
    const struct el_window *const window = &layer->window;
    const struct axis horizontal = {
        in->width, out->width, window->stride_width, window->pad_left, in->channels, out->channels, out->channels,
    };
    const struct axis vertical = {
        in->height,
        out->height,
        window->stride_height,
        window->pad_top,
        in->width * in->channels,
        out->width * out->channels,
        3 * out->channels,
    };
    const struct axis *const along = out->width >= out->height ? &horizontal : &vertical;
    const struct axis *const across = out->width >= out->height ? &vertical : &horizontal;

    for (int32_t line = 0; line < across->outputs;) {
        const struct stretch lines = stretch_from(across, line, LINES);
        for (int32_t column = 0; column < along->outputs;) {
            const struct stretch columns = stretch_from(along, column, LINE_VALUES);
            convolve(layer, along, across, &columns, &lines, input, output);
            column += columns.outputs;
        }
        line += lines.outputs;
    }
}

#else

void el_depthwise_conv2d_3x3(const struct el_depthwise_conv2d *layer, const int8_t *input, int8_t *output)
{
    el_depthwise_conv2d(layer, input, output);
}

#endif
