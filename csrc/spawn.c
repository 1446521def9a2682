/* The spawner: one per Python process. It owns U0, starts every sandbox, deletes what they leave, and ends with its owner.
 *
 * It is PID 1 of a pid namespace of its own, and every sandbox lives below that: whatever ends the spawner, SIGKILL
 * included, the kernel then kills all of them; under bubblewrap, which makes namespaces of its own, see bwrap.c. It runs one
 * thread and waits in one poll. */
#define _GNU_SOURCE
#include "spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

#define LIVING_OWNER_NS 4000000000u
#define DEAD_OWNER_NS 400000000u

static int fail(const struct lis_fault *fault) {
    lis_send_fault(CONTROL, fault);
    return 1;
}

/* With its attendant bubblewrap dies, and what that has made. */
static void kill_one(const struct sandbox *sandbox) {
    pid_t pid = sandbox->attendant ? sandbox->attendant : sandbox->pid;
    if (pid > 0)
        kill(pid, SIGKILL);
}

static void kill_sandbox(struct spawner *spawner, size_t size) {
    const char *id = lis_message_id(spawner->buffer, (ssize_t)size);
    if (!id)
        return;
    for (size_t i = 0; i < spawner->count; i++)
        if (strcmp(spawner->sandboxes[i].id, id) == 0)
            kill_one(&spawner->sandboxes[i]);
}

/* A frozen layer; never what a sandbox is still writing to. */
static void discard(struct spawner *spawner, size_t size) {
    const char *id = lis_message_id(spawner->buffer, (ssize_t)size);
    bool in_use = false;
    for (size_t i = 0; id && i < spawner->count; i++)
        in_use |= strcmp(spawner->sandboxes[i].id, id) == 0;
    if (id && !in_use)
        lis_trash_throw(&spawner->trash, id);
}

/* With real ids a program may have given its root directory away, and then only U0's root can move that. */
static int take_layer(const struct spawner *spawner, size_t size, struct lis_fault *fault) {
    const struct lis_take_message *message = (const struct lis_take_message *)spawner->buffer;
    struct lis_named_message named = {message->header, {0}};
    char source[LIS_ID_SIZE + 2];
    if (size < sizeof *message || !lis_message_id(message, (ssize_t)size))
        return lis_fail(fault, LIS_STAGE_REQUEST, EPROTO, "take");
    memcpy(named.id, message->name, sizeof named.id);
    if (!lis_message_id(&named, sizeof named))
        return lis_fail(fault, LIS_STAGE_REQUEST, EPROTO, "take");
    snprintf(source, sizeof source, "%.*s/u", LIS_ID_SIZE - 1, message->id);
    return renameat(OWNER_DIR, source, OWNER_DIR, named.id) < 0
               ? lis_fail(fault, LIS_STAGE_WRITABLE_LAYER, errno, message->id)
               : 0;
}

static void take_and_tell(const struct spawner *spawner, size_t size, int sock) {
    struct lis_header ready = {LIS_MAGIC, LIS_READY};
    struct lis_fault fault;
    if (take_layer(spawner, size, &fault) < 0)
        lis_send_fault(sock, &fault);
    else
        lis_send(sock, &ready, sizeof ready, NULL, 0);
}

static void hand_network_over(struct spawner *spawner, bool with_rules, int sock) {
    struct lis_fault fault;
    int r = lis_network_hand_over(&spawner->networks, with_rules, sock);
    if (r < 0) {
        lis_fail(&fault, LIS_STAGE_NETWORK_NAMESPACE, -r, NULL);
        lis_send_fault(sock, &fault);
    }
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
    if (kind == LIS_CREATE && nfds >= 1 + (spawner->bwrap != NULL) && nfds <= 2) {
        if (lis_create(spawner, (size_t)size, fds, nfds, &fault) < 0)
            lis_send_fault(fds[0], &fault);
    } else if (kind == LIS_KILL)
        kill_sandbox(spawner, (size_t)size);
    else if (kind == LIS_DISCARD)
        discard(spawner, (size_t)size);
    else if (kind == LIS_TAKE && nfds == 1)
        take_and_tell(spawner, (size_t)size, fds[0]);
    else if ((kind == LIS_NAMESPACE || kind == LIS_HUB) && nfds == 1)
        hand_network_over(spawner, kind == LIS_HUB, fds[0]);
    else if (kind == LIS_CGROUPS)
        take_cgroups(spawner, (size_t)size, fds, &nfds);
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
    return true;
}

static void take_arrivals(struct spawner *spawner) {
    char id[LIS_ID_SIZE];
    for (pid_t pid; lis_bwrap_arrival(spawner->bwrap, id, &pid);)
        for (size_t i = 0; i < spawner->count; i++)
            if (memcmp(spawner->sandboxes[i].id, id, LIS_ID_SIZE) == 0) {
                spawner->sandboxes[i].pid = pid;
                if (spawner->sandboxes[i].account)
                    LIS_STORE(spawner->sandboxes[i].account->pid, pid);
            }
}

/* Whether that was the last process of the sandbox. */
static bool forget_process(struct sandbox *sandbox, pid_t pid, int status) {
    if (pid != sandbox->pid && pid != sandbox->attendant)
        return false;
    /* an attendant that fails leaves no PID 1 behind, or one that ends by itself and is not known to be our child */
    if (pid == sandbox->pid || status != 0)
        sandbox->pid = 0;
    if (pid == sandbox->attendant)
        sandbox->attendant = 0;
    return !sandbox->pid && !sandbox->attendant;
}

static bool is_known(const struct spawner *spawner, pid_t pid) {
    bool known = pid == spawner->trash.pid || pid == spawner->networks.pid;
    for (int which = 0; which < LIS_WATCHDOGS; which++)
        known |= pid == spawner->watchdogs[which];
    for (size_t i = 0; i < spawner->count && !known; i++)
        known = pid == spawner->sandboxes[i].pid || pid == spawner->sandboxes[i].attendant;
    return known;
}

/* Of a child that has just been seen to be one. Who has become one since the last look has been told of before it did: so the
 * look comes after. (It came before, and now and then a sandbox that had just begun was killed, when another start failed.) */
static bool is_known_by_now(void *context, pid_t pid) {
    take_arrivals(context);
    return is_known(context, pid);
}

static void bury(struct spawner *spawner, struct sandbox *sandbox) {
    lis_trash_throw(&spawner->trash, sandbox->id);
    if (sandbox->account)
        lis_account_free(sandbox->account);
    if (sandbox->has_group)
        lis_cgroup_remove(&spawner->cgroups, sandbox->id);
    *sandbox = spawner->sandboxes[--spawner->count];
}

static void replace_service(struct spawner *spawner, pid_t pid) {
    struct lis_fault fault;
    if (pid == spawner->trash.pid)
        lis_trash_start(&spawner->trash);
    if (pid == spawner->networks.pid)
        lis_network_forget(&spawner->networks);
    for (int which = 0; which < LIS_WATCHDOGS; which++)
        if (pid == spawner->watchdogs[which]) { /* somebody has killed it */
            spawner->watchdogs[which] = 0;
            lis_start_watchdog(spawner, which, &fault); /* when that fails, the next sandbox tries again */
        }
}

static void reap(struct spawner *spawner) {
    struct signalfd_siginfo info;
    while (read(spawner->signals, &info, sizeof info) > 0)
        ;
    int status;
    bool strays = false;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        strays |= spawner->bwrap && !(is_known(spawner, pid) && status == 0);
        replace_service(spawner, pid);
        if (spawner->bwrap)
            take_arrivals(spawner); /* after the wait: whom it has reaped has been told of by now */
        for (size_t i = 0; i < spawner->count; i++)
            if (forget_process(&spawner->sandboxes[i], pid, status)) {
                bury(spawner, &spawner->sandboxes[i]);
                break;
            }
    }
    if (strays)
        lis_kill_children(is_known_by_now, spawner);
}

static int prepare(struct spawner *spawner, struct lis_fault *fault) {
    int r = spawner->bwrap ? lis_bwrap_open(spawner->bwrap, fault)
                           : lis_host_open(&spawner->host, spawner->owner_path, OWNER_DIR, fault);
    if (r < 0)
        return r;
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, "/dev/null");
    r = lis_accounts_open(&spawner->accounts);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, "accounts");
    r = lis_trash_open(&spawner->trash, spawner->bwrap);
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

static bool is_nobody(void *context, pid_t pid) {
    (void)context;
    (void)pid;
    return false;
}

/* A slow disk must not keep a process of ours alive long after its owner: what is not deleted by then waits for the next
 * start, or for `lisrt gc`. An owner that lives is waiting for us, and may have a little more. */
static void end_all(const struct spawner *spawner) {
    if (spawner->bwrap)
        close(spawner->bwrap->lifeline[1]);
    pid_t ended;
    do { /* under bubblewrap -1 would be every process of the user; there each death may bring us new children */
        if (spawner->bwrap)
            lis_kill_children(is_nobody, NULL);
        else
            kill(-1, SIGKILL);
        ended = waitpid(-1, NULL, 0);
        /* all that have ended: each round looks at every process there is */
        while (ended > 0 && waitpid(-1, NULL, WNOHANG) > 0)
            ;
    } while (ended > 0 || errno == EINTR);
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
        int events = poll(polled, LIS_COUNT(polled), lis_network_wanted(&spawner->networks) ? LIS_QUIET_MS : -1);
        if (events == 0)
            lis_network_refill(&spawner->networks);
        if (events <= 0)
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

int lis_spawn_main(const char *owner_path, struct lis_bwrap *bwrap, const struct lis_id_ranges *ranges) {
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
    if (!bwrap && lis_host_enter_user_namespace(ranges, &fault) < 0)
        return fail(&fault);
    if (!bwrap && unshare(CLONE_NEWPID) < 0) {
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
    spawner->bwrap = bwrap;
    if (bwrap)
        bwrap->owner_dir = OWNER_DIR;
    if (ranges) {
        spawner->host.uids = ranges->uids + 1;
        spawner->host.gids = ranges->gids + 1;
    }
    return run(spawner);
}
