/*
 * The device under test of MLPerf Tiny: ASCII commands that end in '%', replies that end in "m-ready".
 * Beyond the reference grammar: info, db bin, output, reset and stack. Several inputs or outputs are one sequence of bytes.
 */
#include "model.h"
#include "release.h"
#include "stack.h"
#include "text.h"
#include "timer.h"
#include "uart.h"
#include "words.h"
#ifdef EL_PLAYBACK
#include "playback.h"
#endif

#include <stdint.h>

#define COMMAND_CHARACTERS 80
#define UNKNOWN_COMMAND "unknown command; help% lists them"

/* One struct, so that one address leads to all. */
static struct {
    uint32_t bytes_announced;
    uint32_t bytes_loaded;
    uint8_t has_inferred;
    char command[COMMAND_CHARACTERS + 1];
    /* Layers may overwrite the arena's input, so what the host loaded is kept for every repetition. */
    int8_t input[MODEL_INPUT_BYTES];
} state;

static void line(const char *text)
{
    text_write(text);
    text_write("\r\n");
}

static void fail(const char *reason)
{
    text_write("e-[");
    text_write(reason);
    line("]");
}

static void show_lap(void)
{
    text_write_number("m-lap-us-#\r\n", timer_ticks() / TIMER_TICKS_PER_US);
}

static int has_inferred(void)
{
    if (!state.has_inferred) {
        fail("no inference has run yet");
    }
    return state.has_inferred;
}

static void show_results(void)
{
    if (!has_inferred()) {
        return;
    }
    text_write("m-results-[");
    for (uint32_t i = 0; i < MODEL_OUTPUT_ELEMENTS; i++) {
        if (i != 0) {
            uart_write(',');
        }
        text_write_milli(model_output_milli(i));
    }
    line("]");
}

static void show_output(void)
{
    if (!has_inferred()) {
        return;
    }
    const int8_t *const output = model_output();
    text_write("m-output-[");
    for (uint32_t i = 0; i < MODEL_OUTPUT_BYTES; i++) {
        text_write_hex((uint8_t)output[i], 2);
    }
    line("]");
}

/* Runs the model `times`, and returns the ticks spent in it alone. */
static uint32_t run_model(uint32_t times)
{
    uint32_t ticks = 0;
    while (times-- != 0) {
        int8_t *to = model_input();
        for (uint32_t i = 0; i < MODEL_INPUT_BYTES; i++) {
            to[i] = state.input[i];
        }
        const uint32_t begin = timer_ticks();
        model_invoke();
        ticks += timer_ticks() - begin;
        state.has_inferred = 1;
    }
    return ticks;
}

static void infer(void)
{
    const uint32_t times = words_number(1);
    const uint32_t warmups = words_number(0);
    if (times == 0 || times == NOT_A_NUMBER || warmups == NOT_A_NUMBER) {
        fail("infer takes a count of at least 1");
        return;
    }
    if (state.bytes_loaded != MODEL_INPUT_BYTES) {
        fail("no input is loaded");
        return;
    }
    text_write_number("m-warmup-start-#\r\n", warmups);
    run_model(warmups);
    text_write_number("m-warmup-done\r\nm-infer-start-#\r\n", times);
    show_lap();
    const uint32_t ticks = run_model(times);
    show_lap();
    text_write_number("m-infer-done\r\nm-ticks-#\r\n", ticks);
    show_results();
}

static void load_hex(const char *digits)
{
    while (*digits != '\0') {
        const int32_t byte = words_hex_byte(digits);
        if (byte < 0) {
            fail("db takes pairs of hexadecimal digits");
            return;
        }
        if (state.bytes_loaded == state.bytes_announced) {
            fail("more bytes than db load announced");
            return;
        }
        state.input[state.bytes_loaded++] = (int8_t)byte;
        digits += 2;
    }
    if (state.bytes_loaded == MODEL_INPUT_BYTES) {
        line("m-load-done");
    }
}

static int expect(void)
{
    if (words_number(0) != MODEL_INPUT_BYTES) {
        text_write_number("e-[the model's input has # bytes]\r\n", MODEL_INPUT_BYTES);
        return 0;
    }
    state.bytes_announced = MODEL_INPUT_BYTES;
    state.bytes_loaded = 0;
    return 1;
}

static void load(void)
{
    if (expect()) {
        text_write_number("m-[Expecting # bytes]\r\n", MODEL_INPUT_BYTES);
    }
}

static void load_binary(void)
{
    if (!expect()) {
        return;
    }
    while (state.bytes_loaded < MODEL_INPUT_BYTES) {
        state.input[state.bytes_loaded++] = (int8_t)uart_read();
    }
    line("m-load-done");
}

static void print_buffer(void)
{
    uint32_t count = words_number(MODEL_INPUT_BYTES);
    const uint32_t offset = words_number(0);
    if (count == NOT_A_NUMBER || offset > MODEL_INPUT_BYTES) {
        fail("not inside the buffer");
        return;
    }
    if (count > MODEL_INPUT_BYTES - offset) {
        count = MODEL_INPUT_BYTES - offset;
    }
    text_write("m-buffer-");
    for (uint32_t i = 0; i < count; i++) {
        if (i != 0) {
            uart_write('-');
        }
        text_write_hex((uint8_t)state.input[offset + i], 2);
    }
    line("");
}

/* A command's name, what follows it, and who obeys it. Tables end with a command without a name. */
struct command {
    const char *usage;
    void (*obey)(void);
};

/* Whether a word is the first of a usage. */
static int names(const char *usage, const char *word)
{
    while (*word != '\0' && *usage == *word) {
        usage++;
        word++;
    }
    return *word == '\0' && (*usage == '\0' || *usage == ' ');
}

/* Returns 0 when no command has that name. */
static int obey(const struct command *command, const char *word)
{
    for (; command->usage != 0; command++) {
        if (names(command->usage, word)) {
            command->obey();
            return 1;
        }
    }
    return 0;
}

static void data_buffer(void)
{
    static const struct command commands[] = {{"load", load}, {"bin", load_binary}, {"print", print_buffer}, {0, 0}};
    const char *const word = words_next();
    if (word == 0) {
        fail(UNKNOWN_COMMAND);
    } else if (!obey(commands, word)) {
        load_hex(word);
    }
}

#ifdef EL_PLAYBACK
/* Moves the input on by so many bytes of the trace at the second UART. */
static void sense(void)
{
    const uint32_t hop = words_number(0);
    if (hop == 0 || hop > MODEL_INPUT_BYTES) {
        fail("sense takes the bytes to move on: at least 1, at most the input");
        return;
    }
    state.bytes_announced = MODEL_INPUT_BYTES;
    state.bytes_loaded = playback_move(state.input, MODEL_INPUT_BYTES, hop) ? MODEL_INPUT_BYTES : 0;
    playback_show();
    line(state.bytes_loaded != 0 ? "m-load-done" : "m-trace-done");
}
#endif

static void show_stack(void)
{
    text_write_number("m-stack-[used=#", stack_bytes_used());
    text_write_number(" total=#]\r\n", stack_bytes_total());
}

static void show_name(void)
{
    line("m-name-dut-[edgeloop]");
}

static void show_profile(void)
{
    line("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[" RELEASE_MODEL_NAME "]");
}

static void show_info(void)
{
    line("m-info-[model=" RELEASE_MODEL_DIGEST " " MODEL_INFO "]");
}

static void show_help(void);

/* firmware/README.md explains them. */
static const struct command commands[] = {
    {"name", show_name},
    {"profile", show_profile},
    {"info", show_info},
    {"timestamp", show_lap},
    {"db load N|HEX|bin N|print N O", data_buffer},
    {"infer N W", infer},
    {"results", show_results},
    {"output", show_output},
    {"reset", model_reset},
#ifdef EL_PLAYBACK
    {"sense HOP", sense},
#endif
    {"stack", show_stack},
    {"help", show_help},
    {0, 0},
};

static void show_help(void)
{
    for (const struct command *command = commands; command->usage != 0; command++) {
        text_write(command->usage);
        line("%");
    }
}

/* Reads up to '%', without control characters. Returns 0 when the command was too long. */
static int read_command(void)
{
    uint32_t count = 0;
    for (;;) {
        const uint8_t byte = uart_read();
        if (byte == '%') {
            break;
        }
        if (byte >= ' ' && count <= COMMAND_CHARACTERS) {
            state.command[count++] = (char)byte;
        }
    }
    if (count > COMMAND_CHARACTERS) {
        return 0;
    }
    state.command[count] = '\0';
    return 1;
}

int main(void)
{
    timer_start();
    line("m-timestamp-mode-performance\r\nm-lap-us-0\r\nm-init-done");
    for (;;) {
        line("m-ready");
        if (!read_command()) {
            fail("a command has at most 80 characters");
            continue;
        }
        words_start(state.command);
        const char *const word = words_next();
        if (word != 0 && !obey(commands, word)) {
            fail(UNKNOWN_COMMAND);
        }
    }
}
