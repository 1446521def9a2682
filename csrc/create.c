/* Making one sandbox: all that its PID 1 needs is fetched or made before that exists. */
#define _GNU_SOURCE
#include "inside.h"
#include "spawn.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#include "sys.h"
#include "util.h"

static void close_fetched(struct lis_resources *resources) {
    lis_close(lis_take_fd(&resources->network));
    lis_close(lis_take_fd(&resources->followed));
    for (uint32_t i = 0; i < resources->plan->nsteps; i++)
        lis_close(resources->mounts[i]);
}

/* Assembled when the first sandbox asks for it. */
static int get_filter(struct spawner *spawner, unsigned flags, struct lis_filter **ret_filter,
                      struct lis_fault *fault) {
    if (!spawner->filters[flags]) {
        cleanup_free struct lis_filter *filter = malloc(sizeof *filter);
        int r = filter ? lis_filter_build(flags, filter) : -ENOMEM;
        if (r < 0)
            return lis_fail(fault, LIS_STAGE_FILTER, -r, NULL);
        spawner->filters[flags] = filter;
        filter = NULL;
    }
    *ret_filter = spawner->filters[flags];
    return 0;
}

/* All that the child needs from the host, fetched before it exists: its namespaces don't reach there. */
static int gather_step(struct spawner *spawner, const struct lis_plan *plan, uint32_t i,
                       struct lis_resources *resources, struct lis_fault *fault) {
    const struct lis_step *step = &plan->steps[i];
    const struct lis_create_message *message = (const struct lis_create_message *)spawner->buffer;
    if (step->kind == LIS_STEP_NAMESPACES && step->a & CLONE_NEWNET && resources->network < 0 && !message->inherits)
        resources->network = lis_network_take(&spawner->networks); /* without one it makes its own */
    if (step->kind == LIS_STEP_FILTER)
        return get_filter(spawner, (unsigned)step->a, &resources->filter, fault);
    if (step->kind == LIS_STEP_BIND && step->a != LIS_BIND_OF_IMAGE)
        return resources->mounts[i] =
                   lis_host_mount(&spawner->host, lis_string(plan, step, 0), step->a == LIS_BIND_WRITABLE, fault);
    uint32_t layers = step->kind == LIS_STEP_OVERLAY ? step->nstrings : step->kind == LIS_STEP_BIND ? 1 : 0;
    for (uint32_t s = 0; s < layers; s++) {
        int index = lis_host_layer(&spawner->host, lis_string(plan, step, s), fault);
        if (index < 0)
            return index;
        resources->layers[step->first + s] = (uint32_t)index;
    }
    return 0;
}

static int gather(struct spawner *spawner, const struct lis_plan *plan, struct lis_resources *resources,
                  struct lis_fault *fault) {
    int r = 0;
    for (uint32_t i = 0; i < plan->nsteps; i++)
        resources->mounts[i] = -EBADF;
    for (uint32_t i = 0; r >= 0 && i < plan->nsteps; i++)
        r = gather_step(spawner, plan, i, resources, fault);
    if (r < 0)
        close_fetched(resources);
    return r;
}

static void become_sandbox(const struct lis_resources *resources, int sock) __attribute__((noreturn));
static void become_sandbox(const struct lis_resources *resources, int sock) {
    struct lis_fault fault;
    prctl(PR_SET_NAME, "lisrt-setup", 0, 0, 0);
    setsid();
    /* over the spawner's own socket: with a copy of that one open, Python would take a dead spawner for alive */
    if (dup3(sock, CONTROL, O_CLOEXEC) < 0)
        _exit(1);
    close(sock);
    /* nor have these; and with a low limit on open files their numbers are needed */
    sys_close_range(OWNER, BASE_DIR, 0);
    const struct lis_member *member = &resources->member;
    const struct lis_step *pids = lis_find_step(resources->plan, LIS_STEP_PIDS);
    const struct lis_step *ids = lis_find_step(resources->plan, LIS_STEP_USER);
    struct lis_user user = {ids->c != 0, (uid_t)ids->a, (gid_t)ids->b};
    struct lis_meter meter = {.account = resources->account,
                              .offers = resources->account ? resources->offers : -EBADF,
                              .oom = member->oom,
                              .oom_event = member->oom_event,
                              .peak = member->peak,
                              .pids_events = member->pids_events,
                              .pids = pids ? pids->a + 1 : 0};
    if (lis_cgroup_join(member, &fault) == 0 && lis_setup(resources, &fault) == 0)
        lis_init_main(CONTROL, -EBADF, &meter, &user);
    lis_send_fault(CONTROL, &fault);
    _exit(1);
}

static int remember(struct spawner *spawner, const char *id) {
    if (spawner->count == spawner->capacity) {
        size_t capacity = spawner->capacity ? spawner->capacity * 2 : 64;
        void *more = realloc(spawner->sandboxes, capacity * sizeof *spawner->sandboxes);
        if (!more)
            return -ENOMEM;
        spawner->sandboxes = more;
        spawner->capacity = capacity;
    }
    spawner->sandboxes[spawner->count] = (struct sandbox){0};
    memcpy(spawner->sandboxes[spawner->count].id, id, LIS_ID_SIZE);
    return 0;
}

int lis_start_watchdog(struct spawner *spawner, enum lis_watchdog which, struct lis_fault *fault) {
    if (spawner->watchdogs[which] > 0)
        return 0;
    pid_t pid = lis_watchdog_start(which, &spawner->accounts, spawner->bwrap && !spawner->bwrap->overlay ? "r" : "u");
    if (pid < 0)
        return lis_fail(fault, LIS_STAGE_WATCHDOG, -pid, NULL);
    spawner->watchdogs[which] = pid;
    return 0;
}

/* An account for what we watch ourselves. Its pid is stored when there is one. */
static int open_account(struct spawner *spawner, struct lis_resources *resources, struct lis_fault *fault) {
    const struct lis_step *memory = lis_find_step(resources->plan, LIS_STEP_MEMORY);
    const struct lis_step *disk = lis_find_step(resources->plan, LIS_STEP_DISK);
    bool watch_memory = memory && memory->c == LIS_BY_OURSELVES, watch_disk = disk && (disk->a || disk->b);
    resources->account = NULL;
    if (!watch_memory && !watch_disk)
        return 0;
    int r = watch_memory ? lis_start_watchdog(spawner, LIS_WATCHDOG_MEMORY, fault) : 0;
    if (r == 0 && watch_disk)
        r = lis_start_watchdog(spawner, LIS_WATCHDOG_DISK, fault);
    if (r < 0)
        return r;
    struct lis_account *account = lis_account_take(spawner->accounts.table);
    if (!account)
        return lis_fail(fault, LIS_STAGE_LIMIT, ENOSPC, "accounts");
    memcpy(account->id, resources->id, LIS_ID_SIZE);
    account->memory_limit = watch_memory ? memory->a : 0;
    account->disk_limit = watch_disk ? disk->a : 0;
    account->files_limit = watch_disk ? disk->b : 0;
    resources->account = account;
    resources->offers = spawner->accounts.offers;
    return 0;
}

static void abandon(const struct spawner *spawner, struct lis_resources *resources) {
    close_fetched(resources);
    lis_member_close(&resources->member);
    lis_cgroup_remove(&spawner->cgroups, resources->id);
    if (resources->account)
        lis_account_free(resources->account);
}

/* Whatever the child needs is there before it is: on failure nothing is left. */
static int prepare_sandbox(struct spawner *spawner, struct lis_resources *resources, struct lis_fault *fault) {
    int r = gather(spawner, resources->plan, resources, fault);
    if (r < 0)
        return r;
    r = lis_cgroup_make(&spawner->cgroups, resources->id, resources->plan, &resources->member, fault);
    if (r < 0) {
        close_fetched(resources);
        return r;
    }
    r = open_account(spawner, resources, fault);
    if (r < 0)
        abandon(spawner, resources);
    return r;
}

/* With an attendant, which makes the sandbox beside the spawner: that may take a while. */
static int create_by_bwrap(struct spawner *spawner, struct lis_resources *resources, size_t size, const int fds[],
                           struct lis_fault *fault) {
    const struct lis_create_message *message = (const struct lis_create_message *)spawner->buffer;
    int r = open_account(spawner, resources, fault);
    if (r < 0)
        return r;
    const struct lis_bwrap_request request = {.id = message->id,
                                              .bytes = message + 1,
                                              .size = size - sizeof *message,
                                              .plan = resources->plan,
                                              .sock = fds[0],
                                              .arguments = fds[1],
                                              .account = resources->account,
                                              .accounts = &spawner->accounts};
    pid_t attendant = lis_bwrap_start(spawner->bwrap, &request, fault);
    if (attendant > 0) {
        spawner->sandboxes[spawner->count].account = resources->account;
        spawner->sandboxes[spawner->count++].attendant = attendant;
    } else if (resources->account) {
        lis_account_free(resources->account);
    }
    return attendant;
}

static int create_here(struct spawner *spawner, struct lis_resources *resources, int sock, struct lis_fault *fault) {
    int r = prepare_sandbox(spawner, resources, fault);
    if (r < 0)
        return r;
    pid_t pid = sys_fork_into(CLONE_NEWPID, resources->member.into, SIGCHLD);
    if (pid == 0)
        become_sandbox(resources, sock);
    if (pid < 0) {
        int err = errno;
        abandon(spawner, resources);
        return lis_fail(fault, err == EAGAIN ? LIS_STAGE_PROCESS : LIS_STAGE_PID_NAMESPACE, err, NULL);
    }
    const struct lis_member *member = &resources->member;
    bool has_group = member->into >= 0;
    for (int i = 0; i < LIS_CONTROLLERS; i++)
        has_group |= member->join[i] >= 0;
    struct sandbox *sandbox = &spawner->sandboxes[spawner->count++];
    sandbox->pid = pid;
    sandbox->account = resources->account;
    sandbox->has_group = has_group;
    if (sandbox->account)
        LIS_STORE(sandbox->account->pid, pid);
    close_fetched(resources);
    lis_member_close(&resources->member);
    return 0;
}

/* One that is not there has ended. */
static int find_followed(const struct spawner *spawner, const char followed[LIS_ID_SIZE],
                         struct lis_resources *resources, struct lis_fault *fault) {
    resources->is_follower = followed[0] != 0;
    for (size_t i = 0; resources->is_follower && i < spawner->count; i++)
        if (strncmp(spawner->sandboxes[i].id, followed, LIS_ID_SIZE) == 0) {
            resources->followed = sys_pidfd_open(spawner->sandboxes[i].pid);
            return resources->followed < 0 ? lis_fail(fault, LIS_STAGE_PROCESS, errno, "pidfd_open") : 0;
        }
    return 0;
}

int lis_create(struct spawner *spawner, size_t size, const int fds[], int nfds, struct lis_fault *fault) {
    const struct lis_create_message *message = (const struct lis_create_message *)spawner->buffer;
    struct lis_plan plan;
    struct lis_resources resources = {.plan = &plan,
                                      .host = &spawner->host,
                                      .id = message->id,
                                      .network = -EBADF,
                                      .followed = -EBADF,
                                      .number = spawner->created++};
    if (size < sizeof *message || !lis_message_id(message, (ssize_t)size))
        return lis_fail(fault, LIS_STAGE_REQUEST, EPROTO, "id");
    int r = lis_plan_decode(message + 1, size - sizeof *message, &plan, fault);
    if (r < 0)
        return r;
    r = remember(spawner, message->id);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, NULL);
    if (spawner->bwrap)
        return create_by_bwrap(spawner, &resources, size, fds, fault);
    r = find_followed(spawner, message->follows, &resources, fault);
    if (r < 0)
        return r;
    if (nfds > 1)
        resources.network = fcntl(fds[1], F_DUPFD_CLOEXEC, 0);
    return create_here(spawner, &resources, fds[0], fault);
}
