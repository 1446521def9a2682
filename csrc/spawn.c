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
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

/* The numbers under which Python hands its descriptors over. */
enum { CONTROL = 3, OWNER = 4, OWNER_DIR = 5, BASE_DIR = 6, FIRST_FREE = 7 };

#define LIVING_OWNER_NS 4000000000u
#define DEAD_OWNER_NS 400000000u

struct sandbox {
    pid_t pid;
    char id[LIS_ID_SIZE];
};

struct spawner {
    struct lis_host host;
    const char *owner_path;
    int signals;
    pid_t trash_pid;
    int trash[2]; /* a pipe of names to delete; both ends are ours: what one who was killed left, the next reads */
    struct sandbox *sandboxes;
    size_t count, capacity;
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

/* All that the child needs from the host, fetched before it exists: its namespaces don't reach there. */
static int gather_step(struct spawner *spawner, const struct lis_plan *plan, uint32_t i,
                       struct lis_resources *resources, struct lis_fault *fault) {
    const struct lis_step *step = &plan->steps[i];
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

static void become_sandbox(const struct lis_resources *resources, int sock) __attribute__((noreturn));
static void become_sandbox(const struct lis_resources *resources, int sock) {
    struct lis_fault fault;
    setsid();
    /* over the spawner's own socket: with a copy of that one open, Python would take a dead spawner for alive */
    if (dup3(sock, CONTROL, O_CLOEXEC) < 0)
        _exit(1);
    close(sock);
    if (lis_setup(resources, &fault) == 0)
        lis_init_main(CONTROL);
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

static bool is_id(const char id[LIS_ID_SIZE]) {
    size_t length = strnlen(id, LIS_ID_SIZE);
    return length > 0 && length < LIS_ID_SIZE && strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

static int create(struct spawner *spawner, size_t size, int sock, struct lis_fault *fault) {
    const struct lis_create_message *message = (const struct lis_create_message *)spawner->buffer;
    struct lis_plan plan;
    struct lis_resources resources;
    if (size < sizeof *message || !is_id(message->id))
        return lis_fail(fault, LIS_STAGE_REQUEST, EPROTO, "id");
    int r = lis_plan_decode(message + 1, size - sizeof *message, &plan, fault);
    if (r < 0)
        return r;
    resources.plan = &plan;
    resources.id = message->id;
    r = remember(spawner, message->id);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, NULL);
    r = gather(spawner, &plan, &resources, fault);
    if (r < 0)
        return r;
    pid_t pid = sys_fork_into(CLONE_NEWPID, SIGCHLD);
    if (pid == 0)
        become_sandbox(&resources, sock);
    int err = errno;
    close_mounts(&plan, &resources);
    if (pid < 0)
        return lis_fail(fault, err == EAGAIN ? LIS_STAGE_PROCESS : LIS_STAGE_PID_NAMESPACE, err, NULL);
    spawner->sandboxes[spawner->count++].pid = pid;
    return 0;
}

static void kill_sandbox(struct spawner *spawner, size_t size) {
    const struct lis_create_message *message = (const struct lis_create_message *)spawner->buffer;
    if (size < sizeof *message || !is_id(message->id))
        return;
    for (size_t i = 0; i < spawner->count; i++)
        if (strcmp(spawner->sandboxes[i].id, message->id) == 0)
            kill(spawner->sandboxes[i].pid, SIGKILL);
}

/* false: the owner is gone */
static bool serve(struct spawner *spawner) {
    int fds[LIS_MAX_FDS], nfds = 0;
    ssize_t size = lis_receive(CONTROL, MSG_DONTWAIT, spawner->buffer, sizeof spawner->buffer, fds, &nfds);
    if (size == 0 || size == -ECONNRESET)
        return false;
    const struct lis_header *header = (const struct lis_header *)spawner->buffer;
    struct lis_fault fault;
    if (size >= (ssize_t)sizeof *header && header->magic == LIS_MAGIC) {
        if (header->kind == LIS_CREATE && nfds == 1 && create(spawner, (size_t)size, fds[0], &fault) < 0)
            lis_send_fault(fds[0], &fault);
        else if (header->kind == LIS_KILL)
            kill_sandbox(spawner, (size_t)size);
    }
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
    return true;
}

static void serve_trash(int requests) __attribute__((noreturn));
static void serve_trash(int requests) {
    lis_collect(BASE_DIR);
    cleanup_fd int scratch = open("/s", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char id[LIS_ID_SIZE];
    while (LIS_RETRY(read(requests, id, sizeof id)) == (ssize_t)sizeof id)
        lis_remove_tree(scratch, id); /* what can't be removed now is tried again with the owner's directory */
    _exit(0);
}

/* Deletion takes as long as untrusted code wants it to take, so it has a process of its own, and a nice one. */
static int start_trash(struct spawner *spawner) {
    pid_t pid = fork();
    if (pid == 0) {
        close(spawner->trash[1]);
        close(CONTROL); /* or Python would take the spawner for alive while this one is */
        prctl(PR_SET_NAME, "lisrt-trash", 0, 0, 0);
        setpriority(PRIO_PROCESS, 0, 19);
        serve_trash(spawner->trash[0]);
    }
    spawner->trash_pid = pid; /* -1: tried again when there is something to delete */
    return pid < 0 ? -errno : 0;
}

static void reap(struct spawner *spawner) {
    struct signalfd_siginfo info;
    while (read(spawner->signals, &info, sizeof info) > 0)
        ;
    for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;) {
        if (pid == spawner->trash_pid)
            start_trash(spawner); /* it was killed: what it was deleting goes with the owner's directory */
        for (size_t i = 0; i < spawner->count; i++)
            if (spawner->sandboxes[i].pid == pid) {
                if (spawner->trash_pid < 0)
                    start_trash(spawner); /* it could not be started when it was last tried */
                /* A full pipe means that deletion is far behind; this one then goes with the owner's directory. */
                ssize_t written = write(spawner->trash[1], spawner->sandboxes[i].id, LIS_ID_SIZE);
                (void)written;
                spawner->sandboxes[i] = spawner->sandboxes[--spawner->count];
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
    r = pipe2(spawner->trash, O_CLOEXEC) < 0 || fcntl(spawner->trash[1], F_SETFL, O_NONBLOCK) < 0
            ? -errno
            : start_trash(spawner);
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
