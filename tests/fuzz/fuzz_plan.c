/* The input is a plan as Python would send it. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    void *plan = exact_copy(data, size);
    check_plan_decoder(plan, size);
    free(plan);
    return 0;
}
