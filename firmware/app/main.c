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

static void fail(const char *reason)
{
    text_write("e-[");
    text_write(reason);
    text_write("]\r\n");
}

static void line(const char *text)
{
    text_write(text);
    text_write("\r\n");
}

static void line_with_number(const char *prefix, uint32_t value)
{
    text_write(prefix);
    text_write_unsigned(value);
    text_write("\r\n");
}

static void show_lap(uint32_t ticks)
{
    line_with_number("m-lap-us-", ticks / TIMER_TICKS_PER_US);
}

static void show_results(void)
{
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

static void infer(struct words *words)
{
    uint32_t times = 1;
    uint32_t warmups = 0;
    if (!words_optional_number(words, &times) || !words_optional_number(words, &warmups) || times == 0) {
        fail("infer takes a count of at least 1");
        return;
    }
    if (bytes_expected == 0 || bytes_loaded != bytes_expected) {
        fail("no input is loaded");
        return;
    }
    line_with_number("m-warmup-start-", warmups);
    run_model(warmups);
    line("m-warmup-done");
    line_with_number("m-infer-start-", times);
    show_lap(timer_ticks());
    const uint32_t ticks = run_model(times);
    show_lap(timer_ticks());
    line("m-infer-done");
    line_with_number("m-ticks-", ticks);
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

static int expect(struct words *words)
{
    uint32_t bytes;
    if (!words_number(words, &bytes) || bytes != MODEL_INPUT_BYTES) {
        text_write("e-[the model's input has ");
        text_write_unsigned(MODEL_INPUT_BYTES);
        line(" bytes]");
        return 0;
    }
    bytes_expected = bytes;
    bytes_loaded = 0;
    return 1;
}

static void load_binary(void)
{
    while (bytes_loaded < bytes_expected) {
        input_buffer[bytes_loaded++] = (int8_t)uart_read();
    }
    line("m-load-done");
}

static void print_buffer(struct words *words)
{
    uint32_t count = MODEL_INPUT_BYTES;
    uint32_t offset = 0;
    if (!words_optional_number(words, &count) || !words_optional_number(words, &offset) ||
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

static void data_buffer(struct words *words)
{
    const char *word = words_next(words);
    if (word == 0) {
        fail("db takes load, bin, print or digits");
    } else if (words_equal(word, "load")) {
        if (expect(words)) {
            text_write("m-[Expecting ");
            text_write_unsigned(bytes_expected);
            line(" bytes]");
        }
    } else if (words_equal(word, "bin")) {
        if (expect(words)) {
            load_binary();
        }
    } else if (words_equal(word, "print")) {
        print_buffer(words);
    } else if (bytes_expected == 0) {
        fail("db load comes first");
    } else {
        load_hex(word);
    }
}

#ifdef EL_PLAYBACK
/* Moves the input on by so many bytes of the trace at the second UART. */
static void sense(struct words *words)
{
    uint32_t hop;
    if (!words_number(words, &hop) || hop == 0 || hop > MODEL_INPUT_BYTES) {
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
    text_write("m-stack-[used=");
    text_write_unsigned(stack_bytes_used());
    text_write(" total=");
    text_write_unsigned(stack_bytes_total());
    line("]");
}

/* firmware/README.md explains them. */
static void show_help(void)
{
    text_write("name%\r\nprofile%\r\ninfo%\r\ntimestamp%\r\ndb load N%\r\ndb HEX%\r\ndb bin N%\r\ndb print N O%\r\n"
               "infer N W%\r\nresults%\r\noutput%\r\nreset%\r\nstack%\r\n");
}

static void show_profile(void)
{
    line("m-profile-[ULPMark for tinyML Firmware V0.0.1]");
    line("m-model-[" RELEASE_MODEL_NAME "]");
}

static void after_inference(void (*show)(void))
{
    if (inferences == 0) {
        fail("no inference has run yet");
        return;
    }
    show();
}

static void obey(char *command)
{
    struct words words = {command};
    const char *word = words_next(&words);
    if (word == 0) {
        return;
    }
    if (words_equal(word, "name")) {
        line("m-name-dut-[edgeloop]");
    } else if (words_equal(word, "profile")) {
        show_profile();
    } else if (words_equal(word, "info")) {
        line("m-info-[model=" RELEASE_MODEL_DIGEST " " MODEL_INFO "]");
    } else if (words_equal(word, "timestamp")) {
        show_lap(timer_ticks());
    } else if (words_equal(word, "db")) {
        data_buffer(&words);
    } else if (words_equal(word, "infer")) {
        infer(&words);
    } else if (words_equal(word, "results")) {
        after_inference(show_results);
    } else if (words_equal(word, "output")) {
        after_inference(show_output);
    } else if (words_equal(word, "reset")) {
        model_reset();
#ifdef EL_PLAYBACK
    } else if (words_equal(word, "sense")) {
        sense(&words);
#endif
    } else if (words_equal(word, "stack")) {
        show_stack();
    } else if (words_equal(word, "help")) {
        show_help();
    } else {
        fail("unknown command; help% lists them");
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
    line("m-timestamp-mode-performance");
    line("m-lap-us-0");
    line("m-init-done");
    line("m-ready");
    for (;;) {
        if (read_command(command)) {
            obey(command);
        } else {
            fail("a command has at most 80 characters");
        }
        line("m-ready");
    }
}
