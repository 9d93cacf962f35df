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

/* Layers may overwrite the arena's input, so what the host loaded is kept for every repetition. */
static int8_t input_buffer[MODEL_INPUT_BYTES];
static uint32_t bytes_expected;
static uint32_t bytes_loaded;
static uint32_t inferences;
/* What follows the command's name. */
static struct words words;

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

static void number(const char *before, uint32_t value, const char *after)
{
    text_write(before);
    text_write_unsigned(value);
    text_write(after);
}

static void show_lap(void)
{
    number("m-lap-us-", timer_ticks() / TIMER_TICKS_PER_US, "\r\n");
}

static int has_inferred(void)
{
    if (inferences == 0) {
        fail("no inference has run yet");
    }
    return inferences != 0;
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
    const int8_t *output = model_output();
    text_write("m-output-[");
    for (uint32_t i = 0; i < MODEL_OUTPUT_BYTES; i++) {
        text_write_hex_byte((uint8_t)output[i]);
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
            to[i] = input_buffer[i];
        }
        const uint32_t begin = timer_ticks();
        model_invoke();
        ticks += timer_ticks() - begin;
        inferences++;
    }
    return ticks;
}

static void infer(void)
{
    uint32_t times = 1;
    uint32_t warmups = 0;
    if (!words_optional_number(&words, &times) || !words_optional_number(&words, &warmups) || times == 0) {
        fail("infer takes a count of at least 1");
        return;
    }
    if (bytes_expected == 0 || bytes_loaded != bytes_expected) {
        fail("no input is loaded");
        return;
    }
    number("m-warmup-start-", warmups, "\r\n");
    run_model(warmups);
    number("m-warmup-done\r\nm-infer-start-", times, "\r\n");
    show_lap();
    const uint32_t ticks = run_model(times);
    show_lap();
    number("m-infer-done\r\nm-ticks-", ticks, "\r\n");
    show_results();
}

static void load_hex(const char *digits)
{
    while (*digits != '\0') {
        uint8_t byte;
        if (!words_hex_byte(digits, &byte)) {
            fail("db takes pairs of hexadecimal digits");
            return;
        }
        if (bytes_loaded == bytes_expected) {
            fail("more bytes than db load announced");
            return;
        }
        input_buffer[bytes_loaded++] = (int8_t)byte;
        digits += 2;
    }
    if (bytes_loaded == bytes_expected) {
        line("m-load-done");
    }
}

static int expect(void)
{
    uint32_t bytes;
    if (!words_number(&words, &bytes) || bytes != MODEL_INPUT_BYTES) {
        number("e-[the model's input has ", MODEL_INPUT_BYTES, " bytes]\r\n");
        return 0;
    }
    bytes_expected = bytes;
    bytes_loaded = 0;
    return 1;
}

static void load(void)
{
    if (expect()) {
        number("m-[Expecting ", bytes_expected, " bytes]\r\n");
    }
}

static void load_binary(void)
{
    if (!expect()) {
        return;
    }
    while (bytes_loaded < bytes_expected) {
        input_buffer[bytes_loaded++] = (int8_t)uart_read();
    }
    line("m-load-done");
}

static void print_buffer(void)
{
    uint32_t count = MODEL_INPUT_BYTES;
    uint32_t offset = 0;
    if (!words_optional_number(&words, &count) || !words_optional_number(&words, &offset) ||
        offset > MODEL_INPUT_BYTES) {
        fail("not inside the buffer");
        return;
    }
    if (count > MODEL_INPUT_BYTES - offset) {
        count = MODEL_INPUT_BYTES - offset;
    }
    text_write("m-buffer-");
    for (uint32_t i = 0; i < count; i++) {
        text_write_hex_byte((uint8_t)input_buffer[offset + i]);
        uart_write(i + 1 == count ? '\r' : '-');
    }
    text_write(count == 0 ? "\r\n" : "\n");
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
    const char *const word = words_next(&words);
    if (word == 0) {
        fail("db takes load, bin, print or digits");
    } else if (!obey(commands, word)) {
        if (bytes_expected == 0) {
            fail("db load comes first");
        } else {
            load_hex(word);
        }
    }
}

#ifdef EL_PLAYBACK
/* Moves the input on by so many bytes of the trace at the second UART. */
static void sense(void)
{
    uint32_t hop;
    if (!words_number(&words, &hop) || hop == 0 || hop > MODEL_INPUT_BYTES) {
        fail("sense takes the bytes to move on: at least 1, at most the input");
        return;
    }
    bytes_expected = MODEL_INPUT_BYTES;
    bytes_loaded = playback_move(input_buffer, MODEL_INPUT_BYTES, hop) ? MODEL_INPUT_BYTES : 0;
    playback_show();
    line(bytes_loaded != 0 ? "m-load-done" : "m-trace-done");
}
#endif

static void show_stack(void)
{
    number("m-stack-[used=", stack_bytes_used(), "");
    number(" total=", stack_bytes_total(), "]\r\n");
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
static int read_command(char *command)
{
    uint32_t count = 0;
    for (;;) {
        const uint8_t byte = uart_read();
        if (byte == '%') {
            break;
        }
        if (byte < ' ') {
            continue;
        }
        if (count < COMMAND_CHARACTERS) {
            command[count] = (char)byte;
        }
        count += count <= COMMAND_CHARACTERS;
    }
    command[count < COMMAND_CHARACTERS ? count : COMMAND_CHARACTERS] = '\0';
    return count <= COMMAND_CHARACTERS;
}

int main(void)
{
    static char command[COMMAND_CHARACTERS + 1];

    timer_start();
    line("m-timestamp-mode-performance\r\nm-lap-us-0\r\nm-init-done");
    for (;;) {
        line("m-ready");
        if (!read_command(command)) {
            fail("a command has at most 80 characters");
            continue;
        }
        words.rest = command;
        const char *const word = words_next(&words);
        if (word != 0 && !obey(commands, word)) {
            fail("unknown command; help% lists them");
        }
    }
}
