/* Random numbers and memory of the exact size, so that a sanitizer sees the first byte beyond. */

#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t state = 1;

static int64_t below(int64_t count)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (int64_t)((state >> 33) % (uint64_t)count);
}

#define ONE_OF(...) ((int64_t[]){__VA_ARGS__})[below(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))]

static void *held[4096];
static int count_held;

static void *keep(void *memory)
{
    return held[count_held++] = memory;
}

static float *numbers(int64_t count)
{
    float *some = keep(malloc((size_t)count * sizeof(float)));
    for (int64_t at = 0; at < count; at++)
        some[at] = (float)below(2001) / 1000.0f - 1.0f;
    return some;
}

static int32_t *words(int64_t count)
{
    int32_t *some = keep(malloc((size_t)count * 4));
    for (int64_t at = 0; at < count; at++)
        some[at] = (int32_t)(below(100) | below(100) << 8 | below(100) << 16 | below(100) << 24);
    return some;
}

static int64_t *integers(int64_t count, int64_t bound)
{
    int64_t *some = keep(malloc((size_t)count * 8));
    for (int64_t at = 0; at < count; at++)
        some[at] = below(bound);
    return some;
}

static void forget(void)
{
    while (count_held)
        free(held[--count_held]);
}

static void expect(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "wrong: %s\n", what);
        exit(1);
    }
}

void try_one(int64_t number); /* of the program that includes this */

/* Rounds of tries, each with what is valid and with what is not. */
int main(int count, char **arguments)
{
    int64_t rounds = count > 1 ? atoll(arguments[1]) : 10;
    state = count > 2 ? (uint64_t)atoll(arguments[2]) : 1;
    for (int64_t number = 0; number < rounds; number++) {
        try_one(number);
        forget();
    }
    printf("%lld rounds\n", (long long)rounds);
    return 0;
}

#endif
