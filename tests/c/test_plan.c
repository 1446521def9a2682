/* The decoder takes what Python writes, and nothing else: it is all that stands before setup.c. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include "lis.h"
#include "tap.h"

struct writer {
    char bytes[LIS_MAX_PLAN + 1024];
    size_t size;
    uint32_t steps;
};

static void put(struct writer *w, const void *data, size_t size) {
    memcpy(w->bytes + w->size, data, size);
    w->size += size;
}

static void begin(struct writer *w) {
    uint32_t header[2] = {LIS_MAGIC, 0};
    w->size = w->steps = 0;
    put(w, header, sizeof header);
}

static void step(struct writer *w, uint16_t kind, uint64_t a, uint64_t b, uint64_t c, uint16_t n,
                 const char *const strings[]) {
    uint64_t numbers[3] = {a, b, c};
    put(w, &kind, 2);
    put(w, &n, 2);
    put(w, numbers, sizeof numbers);
    for (uint16_t i = 0; i < n; i++) {
        uint32_t size = (uint32_t)strlen(strings[i]);
        put(w, &size, 4);
        put(w, strings[i], size + 1);
    }
    w->steps++;
    memcpy(w->bytes + 4, &w->steps, 4);
}

#define STRINGS(...)                                                                                                   \
    (const char *const[]) {                                                                                            \
        __VA_ARGS__                                                                                                    \
    }

static void minimal(struct writer *w) {
    begin(w);
    step(w, LIS_STEP_NAMESPACES, CLONE_NEWNET, 0, 0, 0, NULL);
    step(w, LIS_STEP_OVERLAY, 0, 0, 0, 1, STRINGS("/images/base"));
}

static int decode(const struct writer *w, struct lis_plan *plan, struct lis_fault *fault) {
    return lis_plan_decode(w->bytes, w->size, plan, fault);
}

/* One step more, between the minimal plan and its user step. */
static int with(uint16_t kind, uint64_t a, uint64_t b, uint64_t c, uint16_t n, const char *const strings[]) {
    struct writer w;
    struct lis_plan plan;
    struct lis_fault fault;
    minimal(&w);
    if (kind)
        step(&w, kind, a, b, c, n, strings);
    step(&w, LIS_STEP_USER, 0, 0, 0, 0, NULL);
    return decode(&w, &plan, &fault);
}

static void test_accepts(void) {
    struct writer w;
    struct lis_plan plan;
    struct lis_fault fault;
    minimal(&w);
    step(&w, LIS_STEP_BIND, 1, 0, 0, 2, STRINGS("/data/a b", "data/x"));
    step(&w, LIS_STEP_USER, 1000, 1000, 0, 0, NULL);
    check(decode(&w, &plan, &fault) == 0, "a good plan is decoded");
    check(plan.nsteps == 4, "all of its steps are there");
    check(strcmp(lis_string(&plan, &plan.steps[2], 0), "/data/a b") == 0, "strings come as they were sent");
    check(plan.steps[3].a == 1000, "numbers come as they were sent");
    check(with(0, 0, 0, 0, 0, NULL) == 0, "the smallest plan is enough");
}

static void test_refuses_paths(void) {
    static const char *const bad[] = {"/abs", "", ".", "..", "a/..", "a//b", "a/", "../a", "a/./b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check(with(LIS_STEP_PROC, 0, 0, 0, 1, &bad[i]) == -EPROTO, "target \"%s\" is refused", bad[i]);
    static const char *const bad_sources[] = {"relative", "", "/a/../b", "/a//b", "/a/"};
    for (size_t i = 0; i < sizeof bad_sources / sizeof bad_sources[0]; i++)
        check(with(LIS_STEP_BIND, 0, 0, 0, 2, STRINGS(bad_sources[i], "x")) == -EPROTO, "source \"%s\" is refused",
              bad_sources[i]);
}

static void test_refuses_steps(void) {
    check(with(99, 0, 0, 0, 0, NULL) == -EPROTO, "an unknown kind is refused");
    check(with(LIS_STEP_PROC, 0, 0, 0, 0, NULL) == -EPROTO, "a step without its string is refused");
    check(with(LIS_STEP_PROC, 0, 0, 0, 2, STRINGS("a", "b")) == -EPROTO, "a string too many is refused");
    check(with(LIS_STEP_BIND, LIS_BIND_OF_IMAGE + 1, 0, 0, 2, STRINGS("/a", "b")) == -EPROTO,
          "unknown flags are refused");
    check(with(LIS_STEP_READ_ONLY, 0, 0, 0, 0, NULL) == 0, "a root may be read-only");
    check(with(LIS_STEP_READ_ONLY, 0, 0, 0, 1, STRINGS("x")) == -EPROTO,
          "a step with a string that it has no use for is refused");
    check(with(LIS_STEP_OVERLAY, 0, 0, 0, 1, STRINGS("/a")) == -EPROTO, "a second root is refused");
    check(with(LIS_STEP_TMPFS, 0, 1, 0, 1, STRINGS("x")) == -EPROTO, "a tmpfs without a size is refused");
    check(with(LIS_STEP_RLIMIT, RLIMIT_RSS, 1, 1, 0, NULL) == -EPROTO,
          "limits that carry a command's mark are refused");
    check(with(LIS_STEP_RLIMIT, RLIMIT_CPU, 2, 1, 0, NULL) == -EPROTO, "a soft limit above the hard one is refused");
    check(with(LIS_STEP_NAMESPACES, 0, 0, 0, 0, NULL) == -EPROTO, "namespaces twice are refused");
    check(with(LIS_STEP_USER, 0, 0, 0, 0, NULL) == -EPROTO, "two users are refused");
    struct writer w;
    struct lis_plan plan;
    struct lis_fault fault;
    minimal(&w);
    check(decode(&w, &plan, &fault) == -EPROTO, "a plan that never drops to a user is refused");
    step(&w, LIS_STEP_USER, 0, 0, 0, 0, NULL);
    step(&w, LIS_STEP_PROC, 0, 0, 0, 1, STRINGS("proc"));
    check(decode(&w, &plan, &fault) == -EPROTO, "a mount after the privileges fell is refused");
    begin(&w);
    step(&w, LIS_STEP_NAMESPACES, CLONE_NEWUSER, 0, 0, 0, NULL);
    check(decode(&w, &plan, &fault) == -EPROTO && fault.stage == LIS_STAGE_REQUEST, "other namespaces are refused");
}

static void test_survives_damage(void) {
    struct writer good, w;
    struct lis_plan plan;
    struct lis_fault fault;
    minimal(&good);
    step(&good, LIS_STEP_BIND, 1, 0, 0, 2, STRINGS("/data", "data/x"));
    step(&good, LIS_STEP_USER, 0, 0, 0, 0, NULL);
    int accepted = 0;
    for (size_t size = 0; size < good.size; size++) {
        char *exact = malloc(size ? size : 1); /* of just this size, so that the sanitizer sees a byte read too many */
        memcpy(exact, good.bytes, size);
        accepted += lis_plan_decode(exact, size, &plan, &fault) >= 0;
        free(exact);
    }
    check(accepted == 0, "no plan that is cut short is accepted");
    srand(20251121);
    for (int round = 0; round < 200000; round++) {
        w = good;
        for (int flips = 1 + rand() % 4; flips > 0; flips--)
            w.bytes[rand() % (int)good.size] = (char)rand();
        decode(&w, &plan, &fault);
    }
    check(true, "200000 damaged plans did no harm");
}

int main(void) {
    test_accepts();
    test_refuses_paths();
    test_refuses_steps();
    test_survives_damage();
    return tap_done();
}
