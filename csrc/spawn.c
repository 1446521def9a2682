/* The spawner: one per Python process. It owns U0, starts every sandbox, deletes what they leave, and ends with its owner.
 *
 * It is PID 1 of a pid namespace of its own, and every sandbox lives below that: whatever ends the spawner, SIGKILL
 * included, the kernel then kills all of them; under bubblewrap, which makes namespaces of its own, see bwrap.c. It runs one
 * thread and waits in one poll. */
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

static const char collect_now[LIS_ID_SIZE]; /* no sandbox has the empty name */

struct sandbox {
    pid_t pid, attendant; /* 0: not there. attendant: the process that has bubblewrap make it, until it is made */
    char id[LIS_ID_SIZE];
};

struct spawner {
    struct lis_host host;
    struct lis_bwrap *bwrap; /* NULL: sandboxes are made in here */
    const char *owner_path;
    int signals;
    pid_t trash_pid;
    int trash, collected; /* names of directories to delete go in; numbers of directories that were come out */
    unsigned asked;       /* how many such numbers Python waits for */
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
        lis_init_main(CONTROL, -EBADF);
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

static bool is_id(const char id[LIS_ID_SIZE]) {
    size_t length = strnlen(id, LIS_ID_SIZE);
    return length > 0 && length < LIS_ID_SIZE && strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

static int create(struct spawner *spawner, size_t size, const int fds[], struct lis_fault *fault) {
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
    if (spawner->bwrap) {
        const struct lis_bwrap_request request = {message->id, message + 1, size - sizeof *message,
                                                  &plan,       fds[0],      fds[1]};
        pid_t attendant = lis_bwrap_start(spawner->bwrap, &request, fault);
        if (attendant > 0)
            spawner->sandboxes[spawner->count++].attendant = attendant;
        return attendant;
    }
    r = gather(spawner, &plan, &resources, fault);
    if (r < 0)
        return r;
    pid_t pid = sys_fork_into(CLONE_NEWPID, SIGCHLD);
    if (pid == 0)
        become_sandbox(&resources, fds[0]);
    int err = errno;
    close_mounts(&plan, &resources);
    if (pid < 0)
        return lis_fail(fault, err == EAGAIN ? LIS_STAGE_PROCESS : LIS_STAGE_PID_NAMESPACE, err, NULL);
    spawner->sandboxes[spawner->count++].pid = pid;
    return 0;
}

/* With its attendant bubblewrap dies, and what that has made. */
static void kill_one(const struct sandbox *sandbox) {
    pid_t pid = sandbox->attendant ? sandbox->attendant : sandbox->pid;
    if (pid > 0)
        kill(pid, SIGKILL);
}

static void kill_sandbox(struct spawner *spawner, size_t size) {
    const struct lis_create_message *message = (const struct lis_create_message *)spawner->buffer;
    if (size < sizeof *message || !is_id(message->id))
        return;
    for (size_t i = 0; i < spawner->count; i++)
        if (strcmp(spawner->sandboxes[i].id, message->id) == 0)
            kill_one(&spawner->sandboxes[i]);
}

static void answer_collected(uint32_t count) {
    struct lis_count_message answer = {{LIS_MAGIC, LIS_COLLECTED}, count};
    lis_send(CONTROL, &answer, sizeof answer, NULL, 0);
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
        if (header->kind == LIS_CREATE && nfds == 1 + (spawner->bwrap != NULL)) {
            if (create(spawner, (size_t)size, fds, &fault) < 0)
                lis_send_fault(fds[0], &fault);
        } else if (header->kind == LIS_KILL)
            kill_sandbox(spawner, (size_t)size);
        else if (header->kind == LIS_COLLECT) {
            if (write(spawner->trash, collect_now, LIS_ID_SIZE) == LIS_ID_SIZE)
                spawner->asked++;
            else
                answer_collected(0); /* deletion is too far behind to be asked for more */
        }
    }
    for (int i = 0; i < nfds; i++)
        close(fds[i]);
    return true;
}

static uint32_t collect(void) {
    int removed = lis_collect(BASE_DIR);
    return removed < 0 ? 0 : (uint32_t)removed;
}

static void serve_trash(int requests, int answers) __attribute__((noreturn));
static void serve_trash(int requests, int answers) {
    uint32_t collected = collect();
    char id[LIS_ID_SIZE];
    while (LIS_RETRY(read(requests, id, sizeof id)) == (ssize_t)sizeof id)
        if (memcmp(id, collect_now, sizeof id) == 0) {
            collected += collect(); /* what went at the start counts: nobody has been told of it yet */
            if (write(answers, &collected, sizeof collected) != (ssize_t)sizeof collected)
                _exit(1);
            collected = 0;
        } else {
            lis_remove_tree(OWNER_DIR, id); /* what can't be removed now is tried again with the owner's directory */
        }
    _exit(0);
}

/* Deletion takes as long as untrusted code wants it to take, so it has a process of its own, and a nice one. */
static int start_trash(struct spawner *spawner) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0) {
        int r = -errno;
        close(in[0]);
        close(in[1]);
        return r;
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(in[1]);
        close(out[0]);
        close(CONTROL); /* or Python would take the spawner for alive while this one is */
        if (spawner->bwrap)
            lis_bwrap_leave(spawner->bwrap);
        prctl(PR_SET_NAME, "lisrt-trash", 0, 0, 0);
        setpriority(PRIO_PROCESS, 0, 19);
        serve_trash(in[0], out[1]);
    }
    int r = pid < 0 ? -errno : 0;
    close(in[0]);
    close(out[1]);
    if (r == 0 && (fcntl(in[1], F_SETFL, O_NONBLOCK) < 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) < 0))
        r = -errno;
    spawner->trash_pid = pid;
    spawner->trash = in[1];
    spawner->collected = out[0];
    return r;
}

/* Somebody has killed it: what it had not deleted yet goes with the owner's directory. */
static void restart_trash(struct spawner *spawner) {
    spawner->trash_pid = -1;
    lis_close(lis_take_fd(&spawner->trash));
    lis_close(lis_take_fd(&spawner->collected));
    for (; spawner->asked > 0; spawner->asked--)
        answer_collected(0);
    start_trash(spawner);
}

static void pass_on_collected(struct spawner *spawner) {
    uint32_t count;
    ssize_t got = read(spawner->collected, &count, sizeof count);
    if (got == (ssize_t)sizeof count) {
        answer_collected(count);
        spawner->asked--;
    } else if (got == 0) {
        lis_close(lis_take_fd(&spawner->collected)); /* it died: its SIGCHLD is on the way */
    }
}

static void take_arrivals(struct spawner *spawner) {
    char id[LIS_ID_SIZE];
    for (pid_t pid; lis_bwrap_arrival(spawner->bwrap, id, &pid);)
        for (size_t i = 0; i < spawner->count; i++)
            if (memcmp(spawner->sandboxes[i].id, id, LIS_ID_SIZE) == 0)
                spawner->sandboxes[i].pid = pid;
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

static bool is_known(const void *context, pid_t pid) {
    const struct spawner *spawner = context;
    bool known = pid == spawner->trash_pid;
    for (size_t i = 0; i < spawner->count && !known; i++)
        known = pid == spawner->sandboxes[i].pid || pid == spawner->sandboxes[i].attendant;
    return known;
}

static void discard(struct spawner *spawner, size_t i) {
    if (spawner->trash_pid < 0)
        restart_trash(spawner); /* it could not be started when it was last tried */
    /* A full pipe means that deletion is far behind; this one then goes with the owner's directory. */
    ssize_t written = write(spawner->trash, spawner->sandboxes[i].id, LIS_ID_SIZE);
    (void)written;
    spawner->sandboxes[i] = spawner->sandboxes[--spawner->count];
}

static void reap(struct spawner *spawner) {
    struct signalfd_siginfo info;
    while (read(spawner->signals, &info, sizeof info) > 0)
        ;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        bool as_expected = is_known(spawner, pid) && status == 0;
        if (pid == spawner->trash_pid)
            restart_trash(spawner);
        if (spawner->bwrap)
            take_arrivals(spawner); /* after the wait: whom it has reaped has been told of by now */
        for (size_t i = 0; i < spawner->count; i++)
            if (forget_process(&spawner->sandboxes[i], pid, status)) {
                discard(spawner, i);
                break;
            }
        if (spawner->bwrap && !as_expected)
            lis_kill_children(is_known, spawner);
    }
}

static int prepare(struct spawner *spawner, struct lis_fault *fault) {
    int r = spawner->bwrap ? lis_bwrap_open(spawner->bwrap, fault)
                           : lis_host_open(&spawner->host, spawner->owner_path, OWNER_DIR, fault);
    if (r < 0)
        return r;
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, "/dev/null");
    r = start_trash(spawner);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, "trash");
    sigset_t child, blocked;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    blocked = child;
    sigaddset(&blocked, SIGPIPE); /* the trash process may have been killed */
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    spawner->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    return spawner->signals < 0 ? lis_fail(fault, LIS_STAGE_PROCESS, errno, "signalfd") : 0;
}

static bool is_nobody(const void *context, pid_t pid) {
    (void)context;
    (void)pid;
    return false;
}

/* A slow disk must not keep a process of ours alive long after its owner: what is not deleted by then waits for the next
 * start, or for `lisrt gc`. An owner that lives is waiting for us, and may have a little more. */
static void end_all(const struct spawner *spawner) {
    if (spawner->bwrap)
        close(spawner->bwrap->lifeline[1]);
    do { /* under bubblewrap -1 would be every process of the user; there each death may bring us new children */
        if (spawner->bwrap)
            lis_kill_children(is_nobody, NULL);
        else
            kill(-1, SIGKILL);
    } while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
    struct pollfd owner = {.fd = OWNER, .events = POLLIN};
    uint64_t patience = poll(&owner, 1, 0) == 0 ? LIVING_OWNER_NS : DEAD_OWNER_NS;
    const char *name = strrchr(spawner->owner_path, '/');
    lis_remove_tree_until(BASE_DIR, name ? name + 1 : spawner->owner_path, lis_now_ns() + patience);
}

static int run(struct spawner *spawner) {
    struct lis_fault fault;
    if (prepare(spawner, &fault) < 0)
        return fail(&fault);
    struct lis_header ready = {LIS_MAGIC, LIS_READY};
    lis_send(CONTROL, &ready, sizeof ready, NULL, 0);
    struct pollfd polled[] = {{.fd = CONTROL, .events = POLLIN},
                              {.fd = OWNER, .events = POLLIN},
                              {.fd = spawner->signals, .events = POLLIN},
                              {.fd = spawner->collected, .events = POLLIN}};
    for (bool owned = true; owned;) {
        polled[3].fd = spawner->collected;
        if (poll(polled, LIS_COUNT(polled), -1) < 0)
            continue;
        if (polled[3].revents)
            pass_on_collected(spawner);
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

int lis_spawn_main(const char *owner_path, struct lis_bwrap *bwrap) {
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
    if (!bwrap && lis_host_enter_user_namespace(&fault) < 0)
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
    return run(spawner);
}
