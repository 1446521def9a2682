/* Sandboxes made by bubblewrap, where only that may: Ubuntu's AppArmor lets /usr/bin/bwrap alone have capabilities in a user
 * namespace, and nothing that it executes.
 *
 *   spawner ──fork──> attendant ──fork, exec──> bwrap ──clone──> bwrap's child ──exec──> init (csrc/main.c)
 *
 * attendant  makes the root's directory and all mount points, before any untrusted program can run in there, starts
 *            bubblewrap, waits for init's HELLO, kills bubblewrap's outer process, which has nothing left to do, so that
 *            init becomes the child of the spawner, a subreaper, lets init go on (GO, with the plan), and exits.
 * init       does what is left of the plan, and serves as ever (init.c).
 *
 * Here the spawner is not PID 1 of anything. What holds a sandbox to it: while it starts, the attendant's PDEATHSIG, and
 * init's socket to the attendant; afterwards init's PDEATHSIG, now the spawner's death, and a pipe, the lifeline, whose only
 * writer is the spawner. Bubblewrap itself gets no PDEATHSIG: killed at the wrong moment it leaves a process that waits for
 * ever (strays.c); left alone it comes to executing init, which finds the attendant dead and leaves. */
#define _GNU_SOURCE
#include "bounds.h"
#include "inside.h"
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

/* The numbers of what bubblewrap and init inherit; lisrt/bwrap.py names PROGRAM, ARGUMENTS and FIRST_BIND. */
enum { CONTROL = 3, HANDSHAKE = 4, LIFELINE = 5, PROGRAM = 6, ARGUMENTS = 7, FIRST_BIND = 8 };

struct arrival {
    char id[LIS_ID_SIZE];
    pid_t pid;
};

/* What an attendant works with. */
struct start {
    const struct lis_bwrap *bwrap;
    const struct lis_bwrap_request *request;
    struct lis_fault *fault;
    int root;                   /* the copied root; -EBADF under an overlay */
    int sources[LIS_MAX_STEPS]; /* of BIND steps, one after the other */
    uint32_t bind_steps[LIS_MAX_STEPS], nbinds;
    int complaints; /* what bubblewrap writes to its stderr */
    int handshake, theirs;
};

int lis_bwrap_open(struct lis_bwrap *bwrap, struct lis_fault *fault) {
    bwrap->spawner = getpid();
    if (pipe2(bwrap->lifeline, O_CLOEXEC) < 0 || pipe2(bwrap->arrivals, O_CLOEXEC) < 0 ||
        fcntl(bwrap->arrivals[0], F_SETFL, O_NONBLOCK) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, errno, NULL);
    return 0;
}

void lis_bwrap_leave(const struct lis_bwrap *bwrap) {
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != bwrap->spawner)
        _exit(1); /* it died before we asked to be told */
    close(bwrap->lifeline[1]);
}

bool lis_bwrap_arrival(const struct lis_bwrap *bwrap, char ret_id[LIS_ID_SIZE], pid_t *ret_pid) {
    struct arrival arrival;
    if (read(bwrap->arrivals[0], &arrival, sizeof arrival) != (ssize_t)sizeof arrival)
        return false;
    memcpy(ret_id, arrival.id, LIS_ID_SIZE);
    *ret_pid = arrival.pid;
    return true;
}

/* ---- the root and its mount points ---- */

static int copy_layers(struct start *start, const struct lis_step *step) {
    for (uint32_t i = step->nstrings; i-- > 0;) {
        const char *path = lis_string(start->request->plan, step, i);
        cleanup_fd int layer = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (layer < 0)
            return lis_fail(start->fault, LIS_STAGE_LAYER, errno, path);
        int r = lis_copy_layer(layer, start->root, i + 1 < step->nstrings);
        if (r < 0)
            return lis_fail(start->fault, LIS_STAGE_WRITABLE_LAYER, -r, start->request->id);
    }
    return 0;
}

static int make_root(struct start *start, const struct lis_step *step) {
    static const char *const overlay_parts[] = {"", "/u", "/w"}, *const copy_parts[] = {"", "/r"};
    const bool overlay = start->bwrap->overlay;
    const char *const *parts = overlay ? overlay_parts : copy_parts;
    char path[LIS_ID_SIZE + 8];
    for (size_t i = 0; i < (overlay ? LIS_COUNT(overlay_parts) : LIS_COUNT(copy_parts)); i++) {
        snprintf(path, sizeof path, "%s%s", start->request->id, parts[i]);
        if (mkdirat(start->bwrap->owner_dir, path, i ? 0755 : 0700) < 0)
            return lis_fail(start->fault, LIS_STAGE_WRITABLE_LAYER, errno, start->request->id);
    }
    if (overlay)
        return 0;
    start->root = openat(start->bwrap->owner_dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (start->root < 0)
        return lis_fail(start->fault, LIS_STAGE_WRITABLE_LAYER, errno, start->request->id);
    return copy_layers(start, step);
}

/* Below the overlay that bubblewrap will mount: what exists must be what it should be in the layer that shows it. What does
 * not, bubblewrap makes; the layers are no work of untrusted code (lisrt/bwrap.py), so nothing leads it astray. */
static int check_layers(struct start *start, const char *path, bool is_file) {
    const struct lis_step *root = &start->request->plan->steps[1]; /* plan.c: the second step is the root */
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < root->nstrings; i++) {
        cleanup_fd int layer =
            open(lis_string(start->request->plan, root, i), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        r = layer < 0 ? -errno : lis_check_target(layer, path, is_file);
    }
    return r < 0 ? r : 0;
}

/* The mount that a place lies on, and where on it: the last of those before that covers it. -1: the root itself. */
static int mount_below(const struct start *start, const char *path, const char **ret_rest) {
    for (uint32_t i = start->nbinds; i-- > 0;) {
        const struct lis_step *bind = &start->request->plan->steps[start->bind_steps[i]];
        const char *target = lis_string(start->request->plan, bind, 1);
        size_t length = strlen(target);
        if (strncmp(path, target, length) == 0 && (path[length] == 0 || path[length] == '/')) {
            *ret_rest = path[length] ? path + length + 1 : NULL;
            return (int)i;
        }
    }
    *ret_rest = path;
    return -1;
}

/* Makes sure that a place is there, in the root or in the mount that it lies on. *ret_place, if not NULL: it, when this
 * has made it or `exact` asks for it; else -EBADF. */
static int place(struct start *start, const char *path, bool is_file, int *ret_place, bool exact) {
    const char *rest;
    int below = mount_below(start, path, &rest);
    if (below < 0 && start->bwrap->overlay)
        return check_layers(start, path, is_file);
    bool made = false, may_make = true;
    int dir = start->root;
    if (below >= 0) {
        dir = start->sources[below];
        may_make = start->request->plan->steps[start->bind_steps[below]].a == LIS_BIND_WRITABLE;
        struct stat st;
        if (!rest && fstat(dir, &st) == 0)
            return S_ISDIR(st.st_mode) == !is_file ? 0 : is_file ? -EISDIR : -ENOTDIR;
    }
    cleanup_fd int fd = lis_open_target(dir, rest, is_file, may_make, &made);
    int r = fd < 0 ? fd : 0;
    if (r == 0 && ret_place && (made || (exact && below < 0)))
        *ret_place = lis_take_fd(&fd);
    return r;
}

static int prepare_bind(struct start *start, uint32_t i) {
    const struct lis_step *step = &start->request->plan->steps[i];
    const char *source = lis_string(start->request->plan, step, 0), *target = lis_string(start->request->plan, step, 1);
    cleanup_fd int fd =
        sys_openat2(AT_FDCWD, source, O_PATH | O_CLOEXEC, 0, SYS_RESOLVE_NO_SYMLINKS | SYS_RESOLVE_NO_MAGICLINKS);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return lis_fail(start->fault, LIS_STAGE_MOUNT_SOURCE, errno, source);
    int r = place(start, target, !S_ISDIR(st.st_mode), NULL, false);
    if (r < 0)
        return lis_fail(start->fault, LIS_STAGE_MOUNT_POINT, -r, target);
    start->bind_steps[start->nbinds] = i;
    start->sources[start->nbinds++] = lis_take_fd(&fd);
    return 0;
}

static int prepare_directory(struct start *start, const struct lis_step *step) {
    const char *path = lis_string(start->request->plan, step, 0);
    cleanup_fd int made = -EBADF;
    int r = place(start, path, false, &made, step->b);
    if (r < 0)
        return lis_fail(start->fault, LIS_STAGE_DIRECTORY, -r, path);
    if (made < 0)
        return 0;
    cleanup_fd int dir = openat(made, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* fchmod refuses O_PATH */
    if (dir < 0 || fchmod(dir, (mode_t)step->a) < 0)
        return lis_fail(start->fault, LIS_STAGE_DIRECTORY, errno, path);
    return 0;
}

/* All that has to be there when bubblewrap comes. It then makes nothing itself in a root that is a copy. */
static int prepare_files(struct start *start) {
    const struct lis_plan *plan = start->request->plan;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < plan->nsteps; i++) {
        const struct lis_step *step = &plan->steps[i];
        if (step->kind == LIS_STEP_OVERLAY)
            r = make_root(start, step);
        else if (step->kind == LIS_STEP_BIND)
            r = prepare_bind(start, i);
        else if (step->kind == LIS_STEP_DIRECTORY)
            r = prepare_directory(start, step);
        else if (step->kind == LIS_STEP_PROC || step->kind == LIS_STEP_DEV) {
            r = place(start, lis_string(plan, step, 0), false, NULL, false);
            r = r < 0 ? lis_fail(start->fault, LIS_STAGE_MOUNT_POINT, -r, lis_string(plan, step, 0)) : 0;
        }
    }
    return r;
}

/* ---- starting bubblewrap ---- */

/* Puts descriptors under the numbers that they are expected under, whichever they had. */
static int arrange(int *fds, int count) {
    for (int i = 0; i < count; i++)
        if ((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, CONTROL + count)) < 0)
            return -errno;
    for (int i = 0; i < count; i++)
        if (dup2(fds[i], CONTROL + i) < 0)
            return -errno;
    return 0;
}

static void exec_bwrap(struct start *start) __attribute__((noreturn));
static void exec_bwrap(struct start *start) {
    char *const argv[] = {"bwrap", "--args", "7", "--", "/proc/self/fd/6", "init", NULL}, *const envp[] = {NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int fds[FIRST_BIND - CONTROL + LIS_MAX_STEPS] = {
        CONTROL,
        start->theirs,
        start->bwrap->lifeline[0],
        open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
        start->request->arguments,
    };
    memcpy(fds + FIRST_BIND - CONTROL, start->sources, start->nbinds * sizeof *start->sources);
    int r = dup2(start->complaints, 2) < 0 ? -errno : arrange(fds, FIRST_BIND - CONTROL + (int)start->nbinds);
    if (r == 0) {
        execve(start->bwrap->program, argv, envp);
        r = -errno;
    }
    dprintf(2, "%s: %s\n", start->bwrap->program, strerror(-r));
    _exit(127);
}

/* The last line that bubblewrap has written is the reason; those before are warnings. */
static int report(struct start *start) {
    char text[4096];
    ssize_t got = pread(start->complaints, text, sizeof text - 1, 0);
    size_t length = got > 0 ? (size_t)got : 0;
    while (length > 0 && text[length - 1] == '\n')
        length--;
    text[length] = 0;
    const char *line = strrchr(text, '\n');
    return lis_fail(start->fault, LIS_STAGE_BWRAP, EIO, line ? line + 1 : text);
}

/* Waits for init's first word, or bubblewrap's end. Init's pid, as seen from here, comes from the kernel. */
static pid_t receive_hello(int handshake, int monitor) {
    char byte;
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec iov = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct pollfd polled[] = {{.fd = handshake, .events = POLLIN}, {.fd = monitor, .events = POLLIN}};
    while (poll(polled, LIS_COUNT(polled), -1) < 0 && errno == EINTR)
        ;
    /* when both are ready, init has been executed, whatever has become of bubblewrap since */
    if (recvmsg(handshake, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != 1)
        return 0;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS)
        return 0;
    struct ucred credentials;
    memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
    return credentials.pid;
}

/* The plan; and, when there is an account, which one, and what it is kept in. */
static int send_go(const struct start *start) {
    const struct lis_bwrap_request *request = start->request;
    struct lis_offer_message message = {0};
    int r = lis_send(start->handshake, request->bytes, request->size, NULL, 0);
    if (r < 0)
        return r;
    if (!request->account)
        return lis_send(start->handshake, &message, sizeof message, NULL, 0);
    message.number = request->account->number;
    memcpy(message.id, request->id, strlen(request->id) + 1);
    return lis_send(start->handshake, &message, sizeof message,
                    (int[]){request->accounts->memory, request->accounts->offers}, 2);
}

static int run_bwrap(struct start *start) {
    int pair[2], yes = 1;
    start->complaints = memfd_create("bwrap's complaints", MFD_CLOEXEC);
    if (start->complaints < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
        setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) < 0)
        return lis_fail(start->fault, LIS_STAGE_PROCESS, errno, NULL);
    start->handshake = pair[0];
    start->theirs = pair[1];
    pid_t monitor = fork();
    if (monitor == 0)
        exec_bwrap(start);
    if (monitor < 0)
        return lis_fail(start->fault, LIS_STAGE_PROCESS, errno, "bwrap");
    close(start->theirs);
    cleanup_fd int monitor_fd = sys_pidfd_open(monitor);
    if (monitor_fd < 0)
        return lis_fail(start->fault, LIS_STAGE_PROCESS, errno, "pidfd");
    struct arrival arrival = {.pid = receive_hello(start->handshake, monitor_fd)};
    snprintf(arrival.id, sizeof arrival.id, "%s", start->request->id);
    /* before init can become the spawner's child: that one must never reap a PID 1 it has not heard of */
    bool told =
        arrival.pid > 0 && write(start->bwrap->arrivals[1], &arrival, sizeof arrival) == (ssize_t)sizeof arrival;
    if (arrival.pid > 0)
        kill(monitor, SIGKILL);
    while (waitpid(monitor, NULL, 0) < 0 && errno == EINTR)
        ;
    if (arrival.pid <= 0)
        return report(start);
    char acknowledged;
    if (!told || send_go(start) < 0 || LIS_RETRY(recv(start->handshake, &acknowledged, 1, 0)) != 1)
        _exit(1); /* init has died, and its socket with it, or has said on that what is wrong */
    return 0;
}

static void attend(struct start *start) __attribute__((noreturn));
static void attend(struct start *start) {
    lis_bwrap_leave(start->bwrap);
    prctl(PR_SET_NAME, "lisrt-attend", 0, 0, 0);
    /* over the spawner's own socket: with a copy of that one open, Python would take a dead spawner for alive */
    if (dup3(start->request->sock, CONTROL, O_CLOEXEC) < 0)
        _exit(1);
    close(start->request->sock);
    int r = geteuid() == 0 ? lis_host_protect_devices(start->fault) : 0; /* before sources of mounts are opened */
    if (r == 0)
        r = prepare_files(start);
    if (r == 0)
        r = run_bwrap(start);
    if (r < 0)
        lis_send_fault(CONTROL, start->fault);
    _exit(r < 0);
}

pid_t lis_bwrap_start(const struct lis_bwrap *bwrap, const struct lis_bwrap_request *request, struct lis_fault *fault) {
    struct start start = {.bwrap = bwrap, .request = request, .fault = fault, .root = -EBADF};
    pid_t pid = fork();
    if (pid == 0)
        attend(&start);
    return pid < 0 ? lis_fail(fault, LIS_STAGE_PROCESS, errno, NULL) : pid;
}

/* ---- inside ---- */

/* Its account, when it has one. */
static int receive_account(struct lis_meter *meter, uint32_t *ret_number) {
    struct lis_offer_message message;
    struct lis_account_table *table;
    int fds[LIS_MAX_FDS], nfds = 0;
    if (lis_receive(HANDSHAKE, 0, &message, sizeof message, fds, &nfds) != (ssize_t)sizeof message)
        return -EPROTO;
    *ret_number = message.number;
    if (nfds != 2)
        return 0;
    int r = message.number < LIS_MAX_ACCOUNTS ? lis_accounts_map(fds[0], &table) : -EPROTO;
    close(fds[0]);
    if (r < 0)
        return r;
    meter->account = &table->at[message.number];
    meter->offers = fds[1];
    return 0;
}

static int prepare_init(struct lis_meter *meter, struct lis_fault *fault) {
    cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
        return lis_fail(fault, LIS_STAGE_DEV, errno, "/dev/null");
    cleanup_free char *bytes = malloc(LIS_MAX_PLAN);
    cleanup_free struct lis_plan *plan = malloc(sizeof *plan);
    if (!bytes || !plan)
        return lis_fail(fault, LIS_STAGE_INIT, ENOMEM, NULL);
    char hello = 1;
    uint32_t number = 0;
    if (send(HANDSHAKE, &hello, 1, MSG_NOSIGNAL) != 1)
        _exit(1);
    ssize_t size = LIS_RETRY(recv(HANDSHAKE, bytes, LIS_MAX_PLAN, 0));
    if (size <= 0 || receive_account(meter, &number) < 0)
        _exit(1);                              /* the attendant is dead: nobody will ever know of this sandbox */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0); /* the spawner's death; the lifeline tells of one before this line */
    int r = lis_plan_decode(bytes, (size_t)size, plan, fault);
    const struct lis_step *pids = r == 0 ? lis_find_step(plan, LIS_STEP_PIDS) : NULL;
    meter->pids = pids ? pids->a + 1 : 0;
    if (r == 0)
        r = lis_setup_rest(plan, number, fault);
    if (r == 0 && send(HANDSHAKE, &hello, 1, MSG_NOSIGNAL) != 1)
        _exit(1);
    return r;
}

int lis_bwrap_init_main(void) {
    if (getpid() != 1) /* init ends a sandbox by killing all that it can see */
        return 1;
    sys_close_range(LIFELINE + 1, ~0u, 0);
    for (int fd = CONTROL; fd <= LIFELINE; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    struct lis_fault fault;
    struct lis_meter meter = {
        .offers = -EBADF, .oom = -EBADF, .oom_event = -EBADF, .peak = -EBADF, .pids_events = -EBADF};
    if (prepare_init(&meter, &fault) < 0) {
        lis_send_fault(CONTROL, &fault);
        return 1;
    }
    lis_init_main(CONTROL, LIFELINE, &meter, &(struct lis_user){.is_real = false});
}
