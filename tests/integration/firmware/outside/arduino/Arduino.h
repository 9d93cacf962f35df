#pragma once
#include <stdint.h>
#include <stdio.h>

struct Console {
  void begin(long) {}
  explicit operator bool() const { return true; }
  void print(const char *text) { fputs(text, stdout); }
  void print(char letter) { putchar(letter); }
  void print(long number) { printf("%ld", number); }
  void print(int number) { printf("%d", number); }
  void print(double number) { printf("%.2f", number); }
  void println(const char *text) { puts(text); }
  void println(long number) { printf("%ld\n", number); }
  void println(int number) { printf("%d\n", number); }
  void println(unsigned long number) { printf("%lu\n", number); }
  void println(double number) { printf("%.2f\n", number); }
};
static Console Serial __attribute__((unused));

static unsigned long now_us __attribute__((unused)) = 0;
static inline unsigned long micros() { return now_us += 500; }
static inline unsigned long millis() { return micros() / 1000; }
static inline void delay(unsigned long) {}

void setup();
void loop();
