/* The spawner: one per Python process. It owns U0, starts every sandbox, deletes what they leave, and ends with its owner.
 *
 * It is PID 1 of a pid namespace of its own, and every sandbox lives below that: whatever ends the spawner, SIGKILL
 * included, the kernel then kills all of them. It runs one thread and waits in one poll. */
#define _GNU_SOURCE
#include "lis.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

/* The numbers under which Python hands its descriptors over. */
enum { CONTROL = LIS_SPAWNER_CONTROL, OWNER = 4, OWNER_DIR = 5, BASE_DIR = LIS_SPAWNER_BASE_DIR, FIRST_FREE = 7 };

#define LIVING_OWNER_NS 4000000000u
#define DEAD_OWNER_NS 400000000u

struct sandbox {
    pid_t pid;
    char id[LIS_ID_SIZE];
    struct lis_account *account; /* NULL: nothing to watch */
    bool has_group;
};

struct spawner {
    struct lis_host host;
    const char *owner_path;
    int signals;
    struct lis_trash trash;
    struct lis_accounts *accounts;
    pid_t watchdogs[LIS_WATCHDOGS]; /* 0: not needed until now */
    struct lis_cgroups cgroups;
    uint32_t created;
    struct sandbox *sandboxes;
    size_t count, capacity;
    struct lis_filter *filters[LIS_FILTER_FLAGS + 1]; /* those that were asked for, by their flags */
    char buffer[sizeof(struct lis_create_message) + LIS_MAX_PLAN];
};

static int fail(const struct lis_fault *fault) {
    lis_send_fault(CONTROL, fault);
    return 1;
}

static void close_mounts(const struct lis_plan *plan, struct lis_resources *resources) {
    for (uint32_t i = 0; i < plan->nsteps; i++)
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
        close_mounts(plan, resources);
    return r;
}

static const struct lis_step *find_step(const struct lis_plan *plan, uint16_t kind) {
    for (uint32_t i = 0; i < plan->nsteps; i++)
        if (plan->steps[i].kind == kind)
            return &plan->steps[i];
    return NULL;
}

static void become_sandbox(const struct lis_resources *resources, int sock) __attribute__((noreturn));
static void become_sandbox(const struct lis_resources *resources, int sock) {
    struct lis_fault fault;
    setsid();
    /* over the spawner's own socket: with a copy of that one open, Python would take a dead spawner for alive */
    if (dup3(sock, CONTROL, O_CLOEXEC) < 0)
        _exit(1);
    close(sock);
    const struct lis_member *member = &resources->member;
    const struct lis_step *pids = find_step(resources->plan, LIS_STEP_PIDS);
    struct lis_meter meter = {.account = resources->account,
                              .offers = resources->account ? resources->offers : -EBADF,
                              .oom = member->oom,
                              .oom_event = member->oom_event,
                              .peak = member->peak,
                              .pids_events = member->pids_events,
                              .pids = pids ? pids->a + 1 : 0};
    if (lis_cgroup_join(member, &fault) == 0 && lis_setup(resources, &fault) == 0)
        lis_init_main(CONTROL, &meter);
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
    memcpy(spawner->sandboxes[spawner->count].id, id, LIS_ID_SIZE);
    return 0;
}

static int start_watchdog(struct spawner *spawner, enum lis_watchdog which, struct lis_fault *fault) {
    if (spawner->watchdogs[which] > 0)
        return 0;
    pid_t pid = lis_watchdog_start(which, spawner->accounts);
    if (pid < 0)
        return lis_fail(fault, LIS_STAGE_WATCHDOG, -pid, NULL);
    spawner->watchdogs[which] = pid;
    return 0;
}

/* An account for what we watch ourselves. Its pid is stored when there is one. */
static int open_account(struct spawner *spawner, struct lis_resources *resources, struct lis_fault *fault) {
    const struct lis_step *memory = find_step(resources->plan, LIS_STEP_MEMORY);
    const struct lis_step *disk = find_step(resources->plan, LIS_STEP_DISK);
    bool watch_memory = memory && memory->c == LIS_BY_OURSELVES, watch_disk = disk && (disk->a || disk->b);
    resources->account = NULL;
    if (!watch_memory && !watch_disk)
        return 0;
    int r = watch_memory ? start_watchdog(spawner, LIS_WATCHDOG_MEMORY, fault) : 0;
    if (r == 0 && watch_disk)
        r = start_watchdog(spawner, LIS_WATCHDOG_DISK, fault);
    if (r < 0)
        return r;
    struct lis_account *account = lis_account_take(spawner->accounts);
    if (!account)
        return lis_fail(fault, LIS_STAGE_LIMIT, ENOSPC, "accounts");
    memcpy(account->id, resources->id, LIS_ID_SIZE);
    account->memory_limit = watch_memory ? memory->a : 0;
    account->disk_limit = watch_disk ? disk->a : 0;
    account->files_limit = watch_disk ? disk->b : 0;
    resources->account = account;
    resources->offers = spawner->accounts->offers;
    return 0;
}

static void abandon(const struct spawner *spawner, struct lis_resources *resources) {
    close_mounts(resources->plan, resources);
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
        close_mounts(resources->plan, resources);
        return r;
    }
    r = open_account(spawner, resources, fault);
    if (r < 0)
        abandon(spawner, resources);
    return r;
}

static int create(struct spawner *spawner, size_t size, int sock, struct lis_fault *fault) {
    const struct lis_create_message *message = (const struct lis_create_message *)spawner->buffer;
    struct lis_plan plan;
    struct lis_resources resources = {
        .plan = &plan, .host = &spawner->host, .id = message->id, .number = spawner->created++};
    if (!lis_message_id(message, (ssize_t)size))
        return lis_fail(fault, LIS_STAGE_REQUEST, EPROTO, "id");
    int r = lis_plan_decode(message + 1, size - sizeof *message, &plan, fault);
    if (r < 0)
        return r;
    r = remember(spawner, message->id);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, NULL);
    r = prepare_sandbox(spawner, &resources, fault);
    if (r < 0)
        return r;
    struct sandbox *sandbox = &spawner->sandboxes[spawner->count];
    pid_t pid = sys_fork_into(CLONE_NEWPID, resources.member.into, SIGCHLD);
    if (pid == 0)
        become_sandbox(&resources, sock);
    if (pid < 0) {
        int err = errno;
        abandon(spawner, &resources);
        return lis_fail(fault, err == EAGAIN ? LIS_STAGE_PROCESS : LIS_STAGE_PID_NAMESPACE, err, NULL);
    }
    sandbox->pid = pid;
    sandbox->account = resources.account;
    sandbox->has_group = resources.member.oom >= 0 || resources.member.pids_events >= 0 || resources.member.into >= 0 ||
                         find_step(&plan, LIS_STEP_CPUS);
    if (sandbox->account)
        LIS_STORE(sandbox->account->pid, pid);
    spawner->count++;
    close_mounts(&plan, &resources);
    lis_member_close(&resources.member);
    return 0;
}

static void kill_sandbox(struct spawner *spawner, size_t size) {
    const char *id = lis_message_id(spawner->buffer, (ssize_t)size);
    if (!id)
        return;
    for (size_t i = 0; i < spawner->count; i++)
        if (strcmp(spawner->sandboxes[i].id, id) == 0)
            kill(spawner->sandboxes[i].pid, SIGKILL);
}

/* Where sandboxes get their control groups from now on. */
static void take_cgroups(struct spawner *spawner, size_t size, int fds[LIS_MAX_FDS], int *nfds) {
    const struct lis_cgroups_message *message = (const struct lis_cgroups_message *)spawner->buffer;
    int taken = 0;
    for (int i = 0; i < LIS_CONTROLLERS; i++)
        if (size < sizeof *message || spawner->cgroups.version[i])
            return; /* once: sandboxes live in them */
    for (int i = 0; i < LIS_CONTROLLERS; i++) {
        bool given = message->versions[i] > 0 && taken < *nfds;
        spawner->cgroups.version[i] = given ? (int)message->versions[i] : 0;
        spawner->cgroups.dir[i] = given ? fds[taken++] : -EBADF;
    }
    memmove(fds, fds + taken, (size_t)(*nfds - taken) * sizeof *fds); /* the rest is closed by the caller */
    *nfds -= taken;
}

/* false: the owner is gone */
static bool serve(struct spawner *spawner) {
    int fds[LIS_MAX_FDS], nfds = 0;
    ssize_t size = lis_receive(CONTROL, MSG_DONTWAIT, spawner->buffer, sizeof spawner->buffer, fds, &nfds);
    if (size == 0 || size == -ECONNRESET)
        return false;
    uint32_t kind = lis_message_kind(spawner->buffer, size);
    struct lis_fault fault;
    if (kind == LIS_CREATE && nfds == 1 && create(spawner, (size_t)size, fds[0], &fault) < 0)
        lis_send_fault(fds[0], &fault);
    else if (kind == LIS_KILL)
        kill_sandbox(spawner, (size_t)size);
    else if (kind == LIS_CGROUPS)
        take_cgroups(spawner, (size_t)size, fds, &nfds);
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
    return true;
}

static void bury(struct spawner *spawner, struct sandbox *sandbox) {
    lis_trash_throw(&spawner->trash, sandbox->id);
    if (sandbox->account)
        lis_account_free(sandbox->account);
    if (sandbox->has_group)
        lis_cgroup_remove(&spawner->cgroups, sandbox->id);
    *sandbox = spawner->sandboxes[--spawner->count];
}

static void reap(struct spawner *spawner) {
    struct signalfd_siginfo info;
    struct lis_fault fault;
    while (read(spawner->signals, &info, sizeof info) > 0)
        ;
    for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;) {
        if (pid == spawner->trash.pid)
            lis_trash_start(&spawner->trash);
        for (int which = 0; which < LIS_WATCHDOGS; which++)
            if (pid == spawner->watchdogs[which]) { /* somebody has killed it */
                spawner->watchdogs[which] = 0;
                start_watchdog(spawner, which, &fault); /* when that fails, the next sandbox tries again */
            }
        for (size_t i = 0; i < spawner->count; i++)
            if (spawner->sandboxes[i].pid == pid) {
                bury(spawner, &spawner->sandboxes[i]);
                break;
            }
    }
}

static int prepare(struct spawner *spawner, struct lis_fault *fault) {
    int r = lis_host_open(&spawner->host, spawner->owner_path, OWNER_DIR, fault);
    if (r < 0)
        return r;
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, "/dev/null");
    r = lis_accounts_open(&spawner->accounts);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, "accounts");
    r = lis_trash_open(&spawner->trash);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, "trash");
    sigset_t child, blocked;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    blocked = child;
    sigaddset(&blocked, SIGPIPE); /* Python may have closed its end */
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    spawner->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    return spawner->signals < 0 ? lis_fail(fault, LIS_STAGE_PROCESS, errno, "signalfd") : 0;
}

/* A slow disk must not keep a process of ours alive long after its owner: what is not deleted by then waits for the next
 * start, or for `lisrt gc`. An owner that lives is waiting for us, and may have a little more. */
static void end_all(const struct spawner *spawner) {
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    lis_cgroup_remove_all(&spawner->cgroups);
    struct pollfd owner = {.fd = OWNER, .events = POLLIN};
    uint64_t patience = poll(&owner, 1, 0) == 0 ? LIVING_OWNER_NS : DEAD_OWNER_NS;
    const char *name = strrchr(spawner->owner_path, '/');
    lis_owner_remove(BASE_DIR, name ? name + 1 : spawner->owner_path, lis_now_ns() + patience);
}

static int run(struct spawner *spawner) {
    struct lis_fault fault;
    if (prepare(spawner, &fault) < 0)
        return fail(&fault);
    struct lis_header ready = {LIS_MAGIC, LIS_READY};
    lis_send(CONTROL, &ready, sizeof ready, NULL, 0);
    struct pollfd polled[] = {
        {.fd = CONTROL, .events = POLLIN}, {.fd = OWNER, .events = POLLIN}, {.fd = spawner->signals, .events = POLLIN}};
    for (bool owned = true; owned;) {
        if (poll(polled, LIS_COUNT(polled), -1) < 0)
            continue;
        if (polled[2].revents)
            reap(spawner);
        if (polled[0].revents)
            owned = serve(spawner);
        /* A forked child of the owner may hold copies of all its sockets, so their end of file is not enough. */
        if (polled[1].revents)
            owned = false;
    }
    end_all(spawner);
    return 0;
}

int lis_spawn_main(const char *owner_path) {
    struct lis_fault fault;
    /* A program whose standard streams are closed starts us without them; what we opened would then be 0, 1 or 2. */
    for (int fd; (fd = open("/dev/null", O_RDWR)) >= 0 && fd < CONTROL;)
        ;
    sys_close_range(FIRST_FREE, ~0u, 0);
    for (int fd = CONTROL; fd < FIRST_FREE; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    int r = lis_forget_parent();
    if (r < 0) {
        lis_fail(&fault, LIS_STAGE_PROCESS, -r, "session keyring");
        return fail(&fault);
    }
    /* When memory runs out, sandboxes go before the program that they serve. Only root may ever ask for less. */
    lis_write_file(AT_FDCWD, "/proc/self/oom_score_adj", "500");
    if (lis_host_enter_user_namespace(&fault) < 0)
        return fail(&fault);
    if (unshare(CLONE_NEWPID) < 0) {
        lis_fail(&fault, LIS_STAGE_PID_NAMESPACE, errno, NULL);
        return fail(&fault);
    }
    pid_t pid = fork();
    if (pid < 0) {
        lis_fail(&fault, LIS_STAGE_PROCESS, errno, NULL);
        return fail(&fault);
    }
    if (pid > 0)
        return 0; /* so the spawner is no child of Python: wait(-1) there never meets it, and it leaves no zombie */
    struct spawner *spawner = calloc(1, sizeof *spawner);
    if (!spawner)
        return 1;
    prctl(PR_SET_NAME, "lisrt-spawner", 0, 0, 0);
    spawner->owner_path = owner_path;
    return run(spawner);
}
