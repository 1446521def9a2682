/* Strings with numbers, each given once: the layers that a spawner has seen. A trainer may go through thousands of images,
 * and looks each of their layers up for each sandbox. */
#define _GNU_SOURCE
#include "lis.h"

#include <string.h>

#include "util.h"

#define FIRST_CAPACITY 64u

/* FNV-1a. Names come from our own Python, so nobody chooses them to collide. */
static uint32_t hash(const char *text) {
    uint32_t value = 2166136261u;
    for (; *text; text++)
        value = (value ^ (unsigned char)*text) * 16777619u;
    return value;
}

/* The slot that has a name, or else the empty one where it belongs. Slots hold numbers + 1, and are twice as many as names. */
static uint32_t *slot_of(const struct lis_names *names, const char *text) {
    uint32_t mask = 2 * names->capacity - 1;
    for (uint32_t at = hash(text) & mask;; at = (at + 1) & mask)
        if (!names->slots[at] || strcmp(names->at[names->slots[at] - 1], text) == 0)
            return &names->slots[at];
}

static int grow(struct lis_names *names) {
    uint32_t capacity = names->capacity ? 2 * names->capacity : FIRST_CAPACITY;
    uint32_t *slots = calloc((size_t)2 * capacity, sizeof *slots);
    char **at = slots ? realloc(names->at, capacity * sizeof *at) : NULL;
    if (!at) {
        free(slots);
        return -ENOMEM;
    }
    free(names->slots);
    *names = (struct lis_names){at, slots, names->count, capacity};
    for (uint32_t i = 0; i < names->count; i++)
        *slot_of(names, names->at[i]) = i + 1;
    return 0;
}

int lis_names_find(const struct lis_names *names, const char *text) {
    return names->capacity ? (int)*slot_of(names, text) - 1 : -1;
}

int lis_names_add(struct lis_names *names, const char *text) {
    if (names->count == LIS_MAX_NAMES)
        return -ENOSPC;
    int r = names->count == names->capacity ? grow(names) : 0;
    if (r < 0)
        return r;
    char *copy = strdup(text);
    if (!copy)
        return -ENOMEM;
    names->at[names->count] = copy;
    *slot_of(names, text) = names->count + 1;
    return (int)names->count++;
}
