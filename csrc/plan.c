/* The plan's wire format, decoded and checked before anything is done with it.
 *
 *   u32 magic, u32 steps; per step: u16 kind, u16 strings, u64 a, u64 b, u64 c; per string: u32 size, bytes, NUL
 *
 * All numbers are in host order: a plan never leaves the machine it was made on. */
#define _GNU_SOURCE
#include "lis.h"

#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "util.h"

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif

#define NAMESPACES_ALLOWED ((uint64_t)(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP))

struct cursor {
    const char *at, *end;
};

static bool take(struct cursor *cursor, void *to, size_t size) {
    if ((size_t)(cursor->end - cursor->at) < size)
        return false;
    memcpy(to, cursor->at, size);
    cursor->at += size;
    return true;
}

static bool take_string(struct cursor *cursor, const char **ret) {
    uint32_t size;
    if (!take(cursor, &size, sizeof size) || (size_t)(cursor->end - cursor->at) <= size)
        return false;
    if (cursor->at[size] != 0 || memchr(cursor->at, 0, size))
        return false;
    *ret = cursor->at;
    cursor->at += (size_t)size + 1;
    return true;
}

/* "a/b", never "/a", "a//b", "a/", "." or "..": one name for each place, and none outside the root. */
static bool is_below_root(const char *path) {
    for (const char *part = path;;) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (part[length] == 0)
            return strlen(path) < 4096;
        part += length + 1;
    }
}

static bool is_host_path(const char *path) {
    return path[0] == '/' && (path[1] == 0 || is_below_root(path + 1));
}

static const char *check_namespaces(const struct lis_plan *plan, const struct lis_step *step) {
    (void)plan;
    return step->a & ~NAMESPACES_ALLOWED ? "namespaces: unknown flag" : NULL;
}

static const char *check_overlay(const struct lis_plan *plan, const struct lis_step *step) {
    for (uint32_t i = 0; i < step->nstrings; i++)
        if (!is_host_path(lis_string(plan, step, i)))
            return "overlay: lower";
    return step->a > INT64_MAX ? "overlay: size" : NULL;
}

static const char *check_bind(const struct lis_plan *plan, const struct lis_step *step) {
    if (!is_host_path(lis_string(plan, step, 0)))
        return "bind: source";
    return is_below_root(lis_string(plan, step, 1)) && step->a <= LIS_BIND_OF_IMAGE ? NULL : "bind: target or flags";
}

static const char *check_target(const struct lis_plan *plan, const struct lis_step *step) {
    return is_below_root(lis_string(plan, step, 0)) ? NULL : "target";
}

static const char *check_tmpfs(const struct lis_plan *plan, const struct lis_step *step) {
    return check_target(plan, step) || step->a == 0 || step->b == 0 || step->c > 07777 ? "tmpfs" : NULL;
}

static const char *check_directory(const struct lis_plan *plan, const struct lis_step *step) {
    return check_target(plan, step) || step->a > 07777 || step->b > 3 ? "directory" : NULL;
}

static const char *check_hostname(const struct lis_plan *plan, const struct lis_step *step) {
    size_t length = strlen(lis_string(plan, step, 0));
    return length == 0 || length > 64 ? "hostname" : NULL;
}

static const char *check_rlimit(const struct lis_plan *plan, const struct lis_step *step) {
    (void)plan;
    /* RSS and LOCKS carry the mark of a command (tree.c) */
    return step->a >= RLIM_NLIMITS || step->a == RLIMIT_RSS || step->a == RLIMIT_LOCKS || step->b > step->c ? "rlimit"
                                                                                                            : NULL;
}

static const char *check_user(const struct lis_plan *plan, const struct lis_step *step) {
    (void)plan;
    return step->a >= UINT32_MAX || step->b >= UINT32_MAX || step->c > 1 ? "user" : NULL;
}

static const char *check_filter(const struct lis_plan *plan, const struct lis_step *step) {
    (void)plan;
    return step->a > LIS_FILTER_FLAGS ? "filter" : NULL;
}

static const char *check_limit(const struct lis_plan *plan, const struct lis_step *step) {
    (void)plan;
    return step->a == 0 || step->a > INT64_MAX || step->b > INT64_MAX || step->c > LIS_BY_CGROUP ? "limit" : NULL;
}

static const char *check_disk(const struct lis_plan *plan, const struct lis_step *step) {
    (void)plan;
    return step->a > INT64_MAX || step->b > INT64_MAX || step->c ? "disk" : NULL;
}

static const struct {
    enum lis_phase phase;
    uint16_t min_strings, max_strings;
    const char *(*check)(const struct lis_plan *, const struct lis_step *);
} kinds[LIS_STEP_KINDS] = {
    [LIS_STEP_NAMESPACES] = {LIS_PHASE_NAMESPACES, 0, 0, check_namespaces},
    [LIS_STEP_OVERLAY] = {LIS_PHASE_FILES, 1, 500, check_overlay},
    [LIS_STEP_BIND] = {LIS_PHASE_FILES, 2, 2, check_bind},
    [LIS_STEP_PROC] = {LIS_PHASE_FILES, 1, 1, check_target},
    [LIS_STEP_DEV] = {LIS_PHASE_FILES, 1, 1, check_target},
    [LIS_STEP_DEVPTS] = {LIS_PHASE_FILES, 1, 1, check_target},
    [LIS_STEP_TMPFS] = {LIS_PHASE_FILES, 1, 1, check_tmpfs},
    [LIS_STEP_DIRECTORY] = {LIS_PHASE_FILES, 1, 1, check_directory},
    [LIS_STEP_HOSTNAME] = {LIS_PHASE_SYSTEM, 1, 1, check_hostname},
    [LIS_STEP_LOOPBACK] = {LIS_PHASE_SYSTEM, 0, 0, NULL},
    [LIS_STEP_RLIMIT] = {LIS_PHASE_SYSTEM, 0, 0, check_rlimit},
    [LIS_STEP_USER] = {LIS_PHASE_USER, 0, 0, check_user},
    [LIS_STEP_NO_NESTING] = {LIS_PHASE_USER, 0, 0, NULL},
    [LIS_STEP_MEMORY] = {LIS_PHASE_SYSTEM, 0, 0, check_limit},
    [LIS_STEP_PIDS] = {LIS_PHASE_USER, 0, 0, check_limit},
    [LIS_STEP_CPUS] = {LIS_PHASE_SYSTEM, 0, 0, check_limit},
    [LIS_STEP_DISK] = {LIS_PHASE_SYSTEM, 0, 0, check_disk},
    [LIS_STEP_READ_ONLY] = {LIS_PHASE_FILES, 0, 0, NULL},
    [LIS_STEP_FILTER] = {LIS_PHASE_POWERLESS, 0, 0, check_filter},
};

const struct lis_step *lis_find_step(const struct lis_plan *plan, uint16_t kind) {
    for (uint32_t i = 0; i < plan->nsteps; i++)
        if (plan->steps[i].kind == kind)
            return &plan->steps[i];
    return NULL;
}

enum lis_phase lis_step_phase(uint16_t kind) {
    return kinds[kind].phase;
}

static const char *decode_step(struct cursor *cursor, struct lis_plan *plan) {
    struct lis_step *step = &plan->steps[plan->nsteps];
    if (!take(cursor, &step->kind, 2) || !take(cursor, &step->nstrings, 2) || !take(cursor, &step->a, 8) ||
        !take(cursor, &step->b, 8) || !take(cursor, &step->c, 8))
        return "a step is cut short";
    if (step->kind == 0 || step->kind >= LIS_STEP_KINDS)
        return "a step of an unknown kind";
    if (step->nstrings < kinds[step->kind].min_strings || step->nstrings > kinds[step->kind].max_strings ||
        step->nstrings > LIS_MAX_STRINGS - plan->nstrings)
        return "a step with the wrong number of strings";
    step->first = plan->nstrings;
    for (uint32_t i = 0; i < step->nstrings; i++)
        if (!take_string(cursor, &plan->strings[plan->nstrings++]))
            return "a string is cut short or has a NUL in it";
    return NULL;
}

static const char *check_order(const struct lis_plan *plan) {
    if (plan->nsteps < 2 || plan->steps[0].kind != LIS_STEP_NAMESPACES || plan->steps[1].kind != LIS_STEP_OVERLAY)
        return "a plan begins with the namespaces and the root overlay";
    uint32_t seen_user = 0, seen_root = 0;
    for (uint32_t i = 1; i < plan->nsteps; i++) {
        const struct lis_step *step = &plan->steps[i];
        if (kinds[step->kind].phase < kinds[plan->steps[i - 1].kind].phase || step->kind == LIS_STEP_NAMESPACES)
            return "steps out of order";
        seen_user += step->kind == LIS_STEP_USER;
        seen_root += step->kind == LIS_STEP_OVERLAY;
    }
    return seen_user == 1 && seen_root == 1 ? NULL : "a plan has one root and one user";
}

static const char *decode(struct cursor cursor, struct lis_plan *plan) {
    uint32_t magic, count;
    if (!take(&cursor, &magic, 4) || magic != LIS_MAGIC || !take(&cursor, &count, 4) || count > LIS_MAX_STEPS)
        return "not a plan of this version";
    for (plan->nsteps = 0; plan->nsteps < count; plan->nsteps++) {
        const char *wrong = decode_step(&cursor, plan);
        if (wrong)
            return wrong;
    }
    if (cursor.at != cursor.end)
        return "bytes after the last step";
    for (uint32_t i = 0; i < plan->nsteps; i++) {
        const struct lis_step *step = &plan->steps[i];
        const char *wrong = kinds[step->kind].check ? kinds[step->kind].check(plan, step) : NULL;
        if (wrong)
            return wrong;
    }
    return check_order(plan);
}

int lis_plan_decode(const void *buffer, size_t size, struct lis_plan *ret_plan, struct lis_fault *fault) {
    const char *at = buffer;
    ret_plan->nsteps = ret_plan->nstrings = 0;
    const char *wrong = size > LIS_MAX_PLAN ? "plan too large" : decode((struct cursor){at, at + size}, ret_plan);
    return wrong ? lis_fail(fault, LIS_STAGE_REQUEST, EPROTO, wrong) : 0;
}
