/* What the fuzzers share: a check that stops the fuzzer, and the input cut into pieces. */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lis.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* abort() is what libFuzzer takes for a finding: it then writes the input to a file. */
#define require(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct input {
    const uint8_t *at;
    size_t left;
};

/* All that is left when there is less than was asked for: so that no mutation makes an input useless. */
static inline const uint8_t *input_bytes(struct input *input, size_t wanted, size_t *ret_size) {
    const uint8_t *bytes = input->at;
    *ret_size = wanted < input->left ? wanted : input->left;
    input->at += *ret_size;
    input->left -= *ret_size;
    return bytes;
}

static inline unsigned input_u8(struct input *input) {
    size_t size;
    const uint8_t *bytes = input_bytes(input, 1, &size);
    return size ? bytes[0] : 0;
}

static inline unsigned input_u16(struct input *input) {
    unsigned low = input_u8(input);
    return low | input_u8(input) << 8;
}

/* In memory of just this size, so that the sanitizer sees a byte read too many. Never NULL; free it. */
static inline void *exact_copy(const void *bytes, size_t size) {
    void *copy = malloc(size);
    require(copy || size == 0);
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

/* The lowest free number: the same before and after, when no descriptor was lost. */
static inline int free_number(void) {
    int fd = dup(2);
    close(fd);
    return fd;
}

/* plan_rules.c: decodes, and looks with its own eyes at what comes out. */
void check_plan_decoder(const void *bytes, size_t size);
