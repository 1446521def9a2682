/* Control groups: one a sandbox in each directory that was delegated to this user. Version 2 has all controllers in one
 * directory, and a child is born into it; version 1 has one directory for each, and the child writes itself there. */
#define _GNU_SOURCE
#include "bounds.h"
#include "lis.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "util.h"

static int write_number(int dir, const char *file, uint64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    return lis_write_file(dir, file, text);
}

static uint64_t with_swap(const struct lis_step *step) {
    return step->b > INT64_MAX - step->a ? INT64_MAX : step->a + step->b;
}

static int limit_memory(int version, int dir, const struct lis_step *step, struct lis_member *member) {
    if (version == 2) {
        int r = write_number(dir, "memory.max", step->a);
        if (r == 0 && (r = write_number(dir, "memory.swap.max", step->b)) == -ENOENT)
            r = 0; /* a kernel without swap accounting */
        /* no memory.oom.group: it would take PID 1 along. PID 1 sees the first kill, and kills the rest. */
        member->oom = openat(dir, "memory.events", O_RDONLY | O_CLOEXEC);
        member->peak = openat(dir, "memory.peak", O_RDWR | O_CLOEXEC);
        if (member->peak < 0) /* read-only before 6.12, and not there before 5.19 */
            member->peak = openat(dir, "memory.peak", O_RDONLY | O_CLOEXEC);
        return r < 0 ? r : member->oom < 0 ? -errno : 0;
    }
    int r = write_number(dir, "memory.limit_in_bytes", step->a);
    if (r == 0 && (r = write_number(dir, "memory.memsw.limit_in_bytes", with_swap(step))) == -ENOENT)
        r = 0;
    member->oom = openat(dir, "memory.oom_control", O_RDONLY | O_CLOEXEC);
    member->peak = openat(dir, "memory.max_usage_in_bytes", O_RDWR | O_CLOEXEC);
    member->oom_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r < 0 || member->oom < 0 || member->peak < 0 || member->oom_event < 0)
        return r < 0 ? r : -errno;
    char line[32];
    snprintf(line, sizeof line, "%d %d", member->oom_event, member->oom);
    return lis_write_file(dir, "cgroup.event_control", line);
}

static int limit_pids(int dir, const struct lis_step *step, struct lis_member *member) {
    int r = write_number(dir, "pids.max", step->a + 1 + LIS_RESERVED_PIDS);
    member->pids_events = openat(dir, "pids.events", O_RDONLY | O_CLOEXEC);
    return r < 0 ? r : member->pids_events < 0 ? -errno : 0;
}

static int limit_cpus(int version, int dir, const struct lis_step *step) {
    const uint64_t period = 100000, quota = step->a * period / 1000;
    char line[64];
    if (version == 2) {
        snprintf(line, sizeof line, "%" PRIu64 " %" PRIu64, quota, period);
        return lis_write_file(dir, "cpu.max", line);
    }
    int r = write_number(dir, "cpu.cfs_period_us", period);
    return r < 0 ? r : write_number(dir, "cpu.cfs_quota_us", quota);
}

static const struct {
    uint16_t kind;
    const char *name;
} controllers[LIS_CONTROLLERS] = {
    [LIS_CGROUP_MEMORY] = {LIS_STEP_MEMORY, "memory"},
    [LIS_CGROUP_PIDS] = {LIS_STEP_PIDS, "pids"},
    [LIS_CGROUP_CPU] = {LIS_STEP_CPUS, "cpu"},
};

static const struct lis_step *find(const struct lis_plan *plan, uint16_t kind) {
    for (uint32_t i = 0; i < plan->nsteps; i++)
        if (plan->steps[i].kind == kind && plan->steps[i].c == LIS_BY_CGROUP)
            return &plan->steps[i];
    return NULL;
}

static int make_one(const struct lis_cgroups *cgroups, enum lis_controller controller, const char *id,
                    const struct lis_step *step, struct lis_member *member) {
    int version = cgroups->version[controller];
    if (version == 0)
        return -EOPNOTSUPP;
    /* in version 2 the controllers' directories are one, and so are the sandbox's */
    if (mkdirat(cgroups->dir[controller], id, 0755) < 0 && !(errno == EEXIST && version == 2 && member->into >= 0))
        return -errno;
    cleanup_fd int dir = openat(cgroups->dir[controller], id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    int r = controller == LIS_CGROUP_MEMORY ? limit_memory(version, dir, step, member)
            : controller == LIS_CGROUP_PIDS ? limit_pids(dir, step, member)
                                            : limit_cpus(version, dir, step);
    if (r < 0)
        return r;
    if (version == 2 && member->into < 0)
        member->into = lis_take_fd(&dir);
    else if (version == 1)
        member->join[controller] = openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    return version == 1 && member->join[controller] < 0 ? -errno : 0;
}

void lis_member_close(struct lis_member *member) {
    lis_close(lis_take_fd(&member->into));
    for (int i = 0; i < LIS_CONTROLLERS; i++)
        lis_close(lis_take_fd(&member->join[i]));
    lis_close(lis_take_fd(&member->oom));
    lis_close(lis_take_fd(&member->oom_event));
    lis_close(lis_take_fd(&member->peak));
    lis_close(lis_take_fd(&member->pids_events));
}

int lis_cgroup_make(const struct lis_cgroups *cgroups, const char *id, const struct lis_plan *plan,
                    struct lis_member *ret_member, struct lis_fault *fault) {
    *ret_member = (struct lis_member){-EBADF, {-EBADF, -EBADF, -EBADF}, -EBADF, -EBADF, -EBADF, -EBADF};
    for (int i = 0; i < LIS_CONTROLLERS; i++) {
        const struct lis_step *step = find(plan, controllers[i].kind);
        int r = step ? make_one(cgroups, i, id, step, ret_member) : 0;
        if (r < 0) {
            lis_member_close(ret_member);
            lis_cgroup_remove(cgroups, id);
            return lis_fail(fault, LIS_STAGE_CGROUP, -r, controllers[i].name);
        }
    }
    return 0;
}

int lis_cgroup_join(const struct lis_member *member, struct lis_fault *fault) {
    for (int i = 0; i < LIS_CONTROLLERS; i++)
        if (member->join[i] >= 0 && LIS_RETRY(write(member->join[i], "0", 1)) < 0)
            return lis_fail(fault, LIS_STAGE_CGROUP, errno, controllers[i].name);
    return 0;
}

void lis_cgroup_remove(const struct lis_cgroups *cgroups, const char *id) {
    for (int i = 0; i < LIS_CONTROLLERS; i++)
        if (cgroups->version[i])
            unlinkat(cgroups->dir[i], id, AT_REMOVEDIR);
}

/* The directory itself: its name is what the link to its descriptor ends in. */
static void remove_own(int dir) {
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    ssize_t length = readlink(link, path, sizeof path - 1);
    cleanup_fd int above = openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    path[length < 0 ? 0 : length] = 0;
    const char *name = strrchr(path, '/');
    if (name && name[1] && above >= 0)
        unlinkat(above, name + 1, AT_REMOVEDIR);
}

void lis_cgroup_remove_all(const struct lis_cgroups *cgroups) {
    for (int i = 0; i < LIS_CONTROLLERS; i++) {
        int listing = cgroups->version[i] ? openat(cgroups->dir[i], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        DIR *dir = listing < 0 ? NULL : fdopendir(listing);
        if (!dir) {
            lis_close(listing);
            continue;
        }
        for (struct dirent *entry; (entry = readdir(dir));)
            if (entry->d_type == DT_DIR && entry->d_name[0] == 'b') /* a sandbox's name, see channel.py */
                unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
        closedir(dir);
        remove_own(cgroups->dir[i]);
    }
}
