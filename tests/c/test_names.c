/* Numbers of names: each has its own, however many there are. */
#include <errno.h>
#include <stdio.h>

#include "lis.h"
#include "tap.h"

int main(void) {
    struct lis_names names = {0};
    char name[32];
    bool numbered = true, found = true;
    check(lis_names_find(&names, "x") == -1, "nothing is in an empty table");
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "/layers/%d", i);
        numbered &= lis_names_find(&names, name) == -1 && lis_names_add(&names, name) == i;
    }
    for (int i = 0; i < 10000; i++) {
        snprintf(name, sizeof name, "/layers/%d", i);
        found &= lis_names_find(&names, name) == i;
    }
    check(numbered, "names are numbered as they come");
    check(found, "and found under their numbers, through every growth");
    check(lis_names_find(&names, "/layers/10000") == -1 && lis_names_find(&names, "") == -1, "others are not");
    for (uint32_t i = 0; i < names.count; i++)
        free(names.at[i]);
    free(names.at);
    free(names.slots);
    names = (struct lis_names){.count = LIS_MAX_NAMES};
    check(lis_names_add(&names, "x") == -ENOSPC, "there is an end");
    return tap_done();
}
