/* What must hold for whatever lis_plan_decode says, found out by other means than its own: a plan that it takes is encoded
 * again and must be the same bytes; its strings lie in the buffer; its order and paths are looked at once more, plainly. */
#define _GNU_SOURCE
#include <errno.h>

#include "fuzz.h"

struct writer {
    const char *expected;
    size_t size, at;
};

static void same(struct writer *writer, const void *bytes, size_t size) {
    require(writer->at + size <= writer->size);
    require(memcmp(writer->expected + writer->at, bytes, size) == 0);
    writer->at += size;
}

static void check_strings(const struct lis_plan *plan, const struct lis_step *step, struct writer *writer) {
    require(step->first + step->nstrings <= plan->nstrings);
    for (uint32_t i = 0; i < step->nstrings; i++) {
        const char *text = lis_string(plan, step, i);
        require(text >= writer->expected && text < writer->expected + writer->size);
        uint32_t length = (uint32_t)strlen(text); /* ASan sees it when the NUL is not in the buffer */
        same(writer, &length, sizeof length);
        require(text == writer->expected + writer->at);
        same(writer, text, (size_t)length + 1);
    }
}

static void check_encoding(const struct lis_plan *plan, const char *bytes, size_t size) {
    struct writer writer = {bytes, size, 0};
    uint32_t head[2] = {LIS_MAGIC, plan->nsteps};
    same(&writer, head, sizeof head);
    uint32_t strings = 0;
    for (uint32_t i = 0; i < plan->nsteps; i++) {
        const struct lis_step *step = &plan->steps[i];
        same(&writer, &step->kind, sizeof step->kind);
        same(&writer, &step->nstrings, sizeof step->nstrings);
        same(&writer, (uint64_t[]){step->a, step->b, step->c}, 3 * sizeof(uint64_t));
        require(step->first == strings);
        check_strings(plan, step, &writer);
        strings += step->nstrings;
    }
    require(strings == plan->nstrings && writer.at == size);
}

/* Where the step does its work is the last of its strings; the host's side, an absolute path, comes before. */
static void check_path(const char *path, bool on_host) {
    char framed[LIS_MAX_PLAN + 8];
    require((path[0] == '/') == on_host);
    if (strcmp(path, "/") == 0)
        return;
    snprintf(framed, sizeof framed, "%s%s/", on_host ? "" : "/", path);
    require(!strstr(framed, "//") && !strstr(framed, "/./") && !strstr(framed, "/../"));
    require(strlen(path) <= 4096);
}

static void check_paths(const struct lis_plan *plan, const struct lis_step *step) {
    bool on_host = step->kind == LIS_STEP_OVERLAY;
    if (step->kind == LIS_STEP_HOSTNAME) {
        size_t length = strlen(lis_string(plan, step, 0));
        require(length > 0 && length <= 64);
        return;
    }
    for (uint32_t i = 0; i < step->nstrings; i++)
        check_path(lis_string(plan, step, i), on_host || (step->kind == LIS_STEP_BIND && i == 0));
}

static void check_order(const struct lis_plan *plan) {
    unsigned of_kind[LIS_STEP_KINDS] = {0};
    int phase = LIS_PHASE_NAMESPACES;
    require(plan->nsteps >= 3 && plan->nsteps <= LIS_MAX_STEPS && plan->nstrings <= LIS_MAX_STRINGS);
    for (uint32_t i = 0; i < plan->nsteps; i++) {
        uint16_t kind = plan->steps[i].kind;
        require(kind > 0 && kind < LIS_STEP_KINDS);
        require((int)lis_step_phase(kind) >= phase); /* privileges only ever fall */
        phase = (int)lis_step_phase(kind);
        require(plan->steps[i].nstrings <= 500); /* the kernel mounts no overlay of more layers */
        of_kind[kind]++;
    }
    require(plan->steps[0].kind == LIS_STEP_NAMESPACES && plan->steps[1].kind == LIS_STEP_OVERLAY);
    require(of_kind[LIS_STEP_NAMESPACES] == 1 && of_kind[LIS_STEP_OVERLAY] == 1 && of_kind[LIS_STEP_USER] == 1);
}

void check_plan_decoder(const void *bytes, size_t size) {
    static struct lis_plan plan;
    struct lis_fault fault;
    memset(&fault, 0x5a, sizeof fault);
    int r = lis_plan_decode(bytes, size, &plan, &fault);
    if (r < 0) {
        require(r == -EPROTO && fault.stage == LIS_STAGE_REQUEST && fault.err == EPROTO);
        size_t length = strnlen(fault.path, sizeof fault.path);
        require(length > 0 && length < sizeof fault.path);
        return;
    }
    require(r == 0 && size <= LIS_MAX_PLAN);
    check_encoding(&plan, bytes, size);
    check_order(&plan);
    for (uint32_t i = 0; i < plan.nsteps; i++)
        check_paths(&plan, &plan.steps[i]);
}
