/* Stages of setup and their words. */
#include "lis.h"

#include <string.h>

#include "util.h"

static const struct {
    const char *slug, *words;
} stages[] = {
#define LIS_STAGE_ROW(name, slug, words) {slug, words},
    LIS_STAGES(LIS_STAGE_ROW)
#undef LIS_STAGE_ROW
};

int lis_fail(struct lis_fault *fault, enum lis_stage stage, int err, const char *path) {
    fault->stage = (int32_t)stage;
    fault->err = err;
    /* A cut path still points at the place; the numbers are what programs read. */
    size_t length = path ? strnlen(path, sizeof fault->path - 1) : 0;
    if (length)
        memmove(fault->path, path, length);
    fault->path[length] = 0;
    return err ? -err : -EIO;
}

const char *lis_stage_slug(int stage) {
    return stage >= 0 && stage < LIS_STAGE_COUNT ? stages[stage].slug : NULL;
}

const char *lis_stage_words(int stage) {
    return stage >= 0 && stage < LIS_STAGE_COUNT ? stages[stage].words : NULL;
}
