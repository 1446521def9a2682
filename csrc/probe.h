/* What the probe_*.c files share; see probe.c. */
#pragma once

#include "lis.h"

enum lis_probe_status { LIS_PROBE_WORKS, LIS_PROBE_WEAKER, LIS_PROBE_FAILS, LIS_PROBE_UNTRIED };

/* In memory that a probe and its children share with the process that waits for it. */
struct lis_outcome {
    int status, err;
    char detail[200];
};

/* Where a probe needs a place of its own, it is made before the probe and removed after it, whatever became of it. */
enum lis_probe_place { LIS_PLACE_NONE, LIS_PLACE_DIRECTORY, LIS_PLACE_CGROUP };

struct lis_probe {
    const char *name;
    int (*run)(const struct lis_probe *probe, const char *place, struct lis_outcome *out);
    unsigned long flag; /* for a function that serves several probes */
    enum lis_probe_place place;
};

/* Each sets the outcome; `words` are printf's. They return -1, for `return`; lis_works returns 0. */
int lis_works(struct lis_outcome *out, const char *words, ...) __attribute__((format(printf, 2, 3)));
int lis_weaker(struct lis_outcome *out, int err, const char *words, ...) __attribute__((format(printf, 3, 4)));
int lis_fails(struct lis_outcome *out, int err, const char *words, ...) __attribute__((format(printf, 3, 4)));
int lis_untried(struct lis_outcome *out, int err, const char *words, ...) __attribute__((format(printf, 3, 4)));

/* Into a user namespace as the spawner's, and into `namespaces`; mounts are private then. 0, or -1 with the outcome. */
int lis_probe_enter(int namespaces, struct lis_outcome *out);
/* Goes on as PID 1 of a new pid namespace with a fresh /proc. 0 there; the process that called leaves. */
int lis_probe_become_first(struct lis_outcome *out);

/* each ends with an entry without a name */
extern const struct lis_probe lis_namespace_probes[], lis_file_probes[], lis_call_probes[], lis_network_probes[];
