/* PID 1 of one sandbox: reaps, serves, and dies with its control socket (and the kernel then kills all the rest). */
#define _GNU_SOURCE
#include "bounds.h"
#include "inside.h"
#include "lis.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

#define MAX_MESSAGE (128 * 1024)
/* A killed process that is still there after this is stuck in the kernel. Not much less: with 64 sandboxes being killed at
 * once on an emulated machine of two CPUs, one that was not stuck took more than 5 s. */
#define GIVE_UP_NS 20000000000u
#define FREEZE_NS 500000000u /* one that still forks after this is stopped for the kill */
#define MOST_FREEZES 20
#define RECHECK_NS 2000000u
#define OFFER_PATIENCE_MS 10000
#define CLEARING_NS 1000000000u
#define LOOK_AGAIN_NS 5000000u
#define MOST_LOOKS 10

struct init {
    struct lis_watch control, signals, limit, lifeline;
    struct lis_meter meter;
    struct lis_user user;
    struct lis_gateway gateway;
    struct lis_dialler dialler;
    int epoll, proc;
    uint32_t last_tag;
    struct lis_tag_base base;
    struct lis_command *commands;
    uint64_t settled;        /* so many processes and threads are known to stay, and are no bomb */
    uint64_t clearing_until; /* everything has been killed, and nothing is done until it is dead; 0: no such time */
    bool frozen;
    char *buffer;
};

static void finish(struct init *init, struct lis_command *command) {
    struct lis_exit_message message = {
        .header = {LIS_MAGIC, LIS_EXITED},
        .flags = command->flags,
        .wait_status = command->status,
        .wall_ns = (command->ended ? command->ended : lis_now_ns()) - command->started,
        .cpu_ns = command->cpu_ns,
        .max_rss = command->max_rss,
        .written = command->written,
        .memory_peak = lis_meter_peak(&init->meter),
    };
    /* whoever asked may have left: then there is no one to tell */
    lis_send(command->watch.fd, &message, sizeof message, NULL, 0);
    /* closing would not be enough: a file server forked a moment ago may hold a copy, and epoll counts those */
    epoll_ctl(init->epoll, EPOLL_CTL_DEL, command->watch.fd, NULL);
    close(command->watch.fd);
    for (struct lis_command **at = &init->commands; *at; at = &(*at)->next)
        if (*at == command) {
            *at = command->next;
            break;
        }
    free(command);
}

static void continue_kill(struct init *init, struct lis_command *command, uint64_t now) {
    if (!command->exited)
        kill(command->pid, SIGKILL); /* it may not carry its mark yet */
    bool stubborn = now + GIVE_UP_NS >= command->give_up + FREEZE_NS && command->freezes++ < MOST_FREEZES;
    int living = (stubborn ? lis_tree_kill_frozen : lis_tree_kill)(init->proc, &init->base, command->tag);
    if (living == 0) /* twice: one that the listing had passed may have been born to one that was dead when looked at */
        living = lis_tree_kill(init->proc, &init->base, command->tag);
    if (living == 0 && command->exited)
        return finish(init, command);
    if (now >= command->give_up) {
        command->flags |= LIS_EXIT_SURVIVORS;
        finish(init, command);
    }
}

/* Whether there was no room for another process: fork has told the program, and nobody else. One or another of many that
 * fork all the time has always just ended. */
static bool is_full(const struct init *init, uint64_t tasks) {
    uint64_t limit = init->base.pids;
    return limit && tasks + limit / 16 + 1 >= limit;
}

static void begin_kill(struct init *init, struct lis_command *command, uint32_t why) {
    uint64_t now = lis_now_ns();
    command->killing = true;
    command->flags |= why | (is_full(init, lis_tree_tasks(init->proc)) ? LIS_EXIT_PIDS : 0);
    command->give_up = now + GIVE_UP_NS;
    epoll_ctl(init->epoll, EPOLL_CTL_DEL, command->watch.fd, NULL); /* or its end of file would wake us for ever */
    continue_kill(init, command, now);
}

/* Over a limit that the sandbox has as a whole: everything in it is killed, atomically with fork, and each command that
 * runs says why. PID 1 and the files stay. Then it just waits: whatever it opened or listed now would be charged to the
 * same full group, with nobody left in it for the kernel to kill but PID 1. */
static void look_at_limits(struct init *init) {
    uint32_t passed = lis_meter_passed(&init->meter);
    bool is_lethal = passed & (LIS_EXIT_OUT_OF_MEMORY | LIS_EXIT_DISK);
    uint64_t now = lis_now_ns();
    if (is_lethal) {
        kill(-1, SIGKILL);
        init->clearing_until = now + CLEARING_NS;
    }
    for (struct lis_command *command = init->commands; passed && command; command = command->next) {
        command->flags |= passed;
        if (is_lethal && !command->killing) {
            command->killing = true;
            command->give_up = now + GIVE_UP_NS;
            epoll_ctl(init->epoll, EPOLL_CTL_DEL, command->watch.fd, NULL);
        }
    }
}

/* Nobody lives any more, so all that were to be killed are dead. */
static void finish_cleared(struct init *init) {
    init->clearing_until = 0;
    lis_shm_remove_all(&init->user);
    for (struct lis_command *command = init->commands, *following; command; command = following) {
        following = command->next;
        if (command->killing && command->exited)
            finish(init, command);
    }
}

static struct lis_command *find(struct init *init, pid_t pid) {
    struct lis_command *command = init->commands;
    /* the number of one that has exited may be taken again */
    while (command && (command->exited || command->pid != pid))
        command = command->next;
    return command;
}

static void on_exit_of(struct lis_command *command, int status, const struct rusage *usage) {
    command->exited = true;
    command->ended = lis_now_ns();
    command->status = status;
    command->max_rss = (uint64_t)usage->ru_maxrss * 1024;
    command->written = (uint64_t)usage->ru_oublock * 512;
    command->cpu_ns = (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000000u +
                      (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1000u;
}

/* Those that have ended by themselves. What one left behind may fill the sandbox up to its last process: a fork bomb, after
 * which no shell could do anything any more. Where nothing else runs, that goes. A crowd that holds but a part of it may
 * be such a bomb just between two forks, and is looked at again; once, not after each command beside 600 sleepers. */
static void finish_exited(struct init *init, bool has_children) {
    uint64_t tasks = has_children && init->base.pids ? lis_tree_tasks(init->proc) : 0, now = lis_now_ns();
    bool full = is_full(init, tasks), others = false, is_crowd;
    init->settled = tasks < init->settled ? tasks : init->settled;
    is_crowd = (tasks - init->settled) * 8 > init->base.pids;
    for (struct lis_command *command = init->commands, *following; command; command = following) {
        following = command->next;
        if (!command->exited || command->killing) {
            others = true;
        } else if (!full && is_crowd && command->looks++ < MOST_LOOKS) {
            command->deadline = now + LOOK_AGAIN_NS;
            others = true;
        } else {
            init->settled = full ? 0 : tasks;
            command->flags |= full ? LIS_EXIT_PIDS : 0;
            finish(init, command);
        }
    }
    if (full && !others)
        kill(-1, SIGKILL);
}

static void reap(struct init *init) {
    struct signalfd_siginfo info;
    while (read(init->signals.fd, &info, sizeof info) > 0)
        if (info.ssi_signo == LIS_SIGNAL_OFFER && info.ssi_code == SI_USER &&
            info.ssi_pid == 0) /* kill(), from outside */
            lis_meter_offer(&init->meter, init->proc, 0);
    look_at_limits(init); /* first: what ended may have been killed for one */
    int status;
    struct rusage usage;
    pid_t pid;
    bool any = false;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        struct lis_command *command = find(init, pid);
        any |= command != NULL;
        if (command) /* else an orphan or a file server */
            on_exit_of(command, status, &usage);
    }
    if (pid < 0) {
        lis_meter_busy(&init->meter, false);
        if (init->clearing_until)
            finish_cleared(init);
    }
    if (any)
        finish_exited(init, pid == 0);
}

static int watch(int epoll, struct lis_watch *what, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = what};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, what->fd, &event) < 0 ? -errno : 0;
}

static void start_command(struct init *init, size_t size, int fds[LIS_MAX_FDS], int nfds) {
    struct lis_command *command;
    lis_meter_begin(&init->meter, !init->commands);
    lis_meter_busy(&init->meter, true);
    int r = lis_command_start(&init->base, &init->user, ++init->last_tag, (const struct lis_exec_message *)init->buffer,
                              size, fds, nfds, &command);
    if (r < 0)
        return;
    command->next = init->commands;
    init->commands = command;
    r = watch(init->epoll, &command->watch, EPOLLRDHUP);
    if (r < 0) { /* out of memory or watches: one that could not be cancelled must not run */
        lis_command_refuse(command->watch.fd, -r, LIS_AT_SETUP);
        begin_kill(init, command, 0);
    }
}

/* For the sandbox that goes on with its files: to make another one, and to take this one down, a snapshot took a fifth
 * longer. Never for anybody else's sandbox: decision 14. */
static void bequeath_network(int proc) {
    cleanup_fd int network = openat(proc, "self/ns/net", O_RDONLY | O_CLOEXEC);
    struct lis_header message = {LIS_MAGIC, LIS_NETWORK};
    if (network >= 0)
        lis_send(LIS_CONTROL, &message, sizeof message, &network, 1);
}

static void quit(const struct init *init, bool bequeath) {
    kill(-1, SIGKILL); /* atomic with fork: nothing that lives now has a child that escapes it */
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    if (bequeath)
        bequeath_network(init->proc);
    _exit(0); /* now the other end sees end of file. It relies on this, and on LIS_NETWORK, that all others are dead */
}

static void thaw(struct init *init) {
    if (init->frozen) /* only then: programs may stop each other, which is their business */
        kill(-1, SIGCONT);
    init->frozen = false;
}

static void freeze_or_thaw(struct init *init, const int fds[LIS_MAX_FDS], int nfds) {
    int number = 0;
    if (((const struct lis_freeze_message *)init->buffer)->number == 0)
        thaw(init);
    else if (init->commands) /* it may be one that is being killed, which continues all others */
        number = -EBUSY;
    else if ((number = lis_tree_stop(init->proc, &init->base)) >= 0)
        init->frozen = true;
    lis_frozen_send(number, fds, nfds);
}

static void serve(struct init *init) {
    int fds[LIS_MAX_FDS], nfds = 0;
    ssize_t size = lis_receive(LIS_CONTROL, MSG_DONTWAIT, init->buffer, MAX_MESSAGE, fds, &nfds);
    if (size == -EAGAIN)
        return;
    if (size == 0 || size == -ECONNRESET)
        _exit(0);
    uint32_t kind = lis_message_kind(init->buffer, size);
    if (kind == LIS_EXEC || kind == LIS_DIAL)
        thaw(init);
    if (kind == LIS_FREEZE && size == sizeof(struct lis_freeze_message))
        return freeze_or_thaw(init, fds, nfds);
    if (kind == LIS_EXEC)
        return start_command(init, (size_t)size, fds, nfds);
    if (kind == LIS_FILES)
        return lis_file_server_start(&init->user, fds, nfds);
    if (kind == LIS_DRAIN)
        return lis_drain_begin(init->epoll, fds, nfds);
    if (kind == LIS_MEMORY)
        return lis_memory_send(fds, nfds);
    if (kind == LIS_LISTEN && nfds == 1) {
        lis_gateway_open(&init->gateway, init->epoll, fds[0]);
        return;
    }
    if (kind == LIS_DIAL && nfds == 1)
        return lis_dial_begin(&init->dialler, init->epoll, (const struct lis_dial_message *)init->buffer, (size_t)size,
                              fds[0]);
    if (kind == LIS_QUIT || kind == LIS_BEQUEATH)
        quit(init, kind == LIS_BEQUEATH);
    for (int i = 0; i < nfds; i++)
        close(fds[i]); /* not understood: closing its sockets is the answer */
}

/* Ends what is over time and goes on with kills; returns how long epoll may sleep, in ms, -1 for ever. */
static int run_clock(struct init *init) {
    uint64_t now = lis_now_ns(), next = UINT64_MAX;
    if (init->clearing_until <= now)
        init->clearing_until = 0; /* it takes long: on to one by one */
    for (struct lis_command *command = init->commands, *following; command; command = following) {
        following = command->next;
        if (command->killing && init->clearing_until) {
            next = init->clearing_until < next ? init->clearing_until : next;
        } else if (command->killing) {
            continue_kill(init, command, now);
            next = now + RECHECK_NS < next ? now + RECHECK_NS : next;
        } else if (command->exited && command->deadline <= now) {
            finish_exited(init, true); /* it may free the following one */
            return run_clock(init);
        } else if (command->deadline && command->deadline <= now) {
            begin_kill(init, command, LIS_EXIT_TIMED_OUT);
            next = now + RECHECK_NS < next ? now + RECHECK_NS : next;
        } else if (command->deadline && command->deadline < next) {
            next = command->deadline;
        }
    }
    if (next == UINT64_MAX || !init->commands)
        return -1;
    uint64_t ms = (next - now + 999999) / 1000000;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static int prepare(struct init *init, int lifeline) {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigaddset(&child, LIS_SIGNAL_LOOK);
    sigaddset(&child, LIS_SIGNAL_OFFER);
    sigprocmask(SIG_SETMASK, &child, NULL);
    init->control = (struct lis_watch){LIS_WATCH_CONTROL, LIS_CONTROL};
    init->signals = (struct lis_watch){LIS_WATCH_SIGNALS, signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK)};
    init->epoll = epoll_create1(EPOLL_CLOEXEC);
    init->proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    init->buffer = malloc(MAX_MESSAGE);
    if (init->signals.fd < 0 || init->epoll < 0 || init->proc < 0 || !init->buffer)
        return -errno;
    /* Commands have our uid: without this they could read this memory, take our sockets, overwrite our binary. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NAME, "lisrt-init", 0, 0, 0) < 0)
        return -errno;
    int r = lis_tag_base(&init->base);
    struct rlimit processes;
    if (getrlimit(RLIMIT_NPROC, &processes) == 0) /* the host may allow fewer */
        init->base.pids = init->meter.pids < processes.rlim_max ? init->meter.pids : processes.rlim_max;
    lis_meter_init(&init->meter);
    if (r == 0)
        r = lis_meter_offer(&init->meter, init->proc, OFFER_PATIENCE_MS);
    struct rlimit files = {init->base.hard_files, init->base.hard_files};
    /* Each command that leaves children behind keeps two of ours. Refused where fs.nr_open has been lowered since. */
    if (r == 0 && setrlimit(RLIMIT_NOFILE, &files) < 0)
        init->base.hard_files = 0;
    if (r == 0)
        r = watch(init->epoll, &init->control, EPOLLIN);
    if (r == 0)
        r = watch(init->epoll, &init->signals, EPOLLIN);
    if (r == 0 && init->meter.oom >= 0) {
        bool has_event = init->meter.oom_event >= 0;
        init->limit = (struct lis_watch){LIS_WATCH_LIMIT, has_event ? init->meter.oom_event : init->meter.oom};
        r = watch(init->epoll, &init->limit, (has_event ? EPOLLIN : EPOLLPRI) | EPOLLET);
    }
    if (r == 0 && lifeline >= 0) {
        init->lifeline = (struct lis_watch){LIS_WATCH_LIFELINE, lifeline};
        r = watch(init->epoll, &init->lifeline, EPOLLIN);
    }
    return r;
}

/* The descriptors that are kept, side by side after the control socket; all others are the spawner's: the way out. */
static void keep_descriptors(struct lis_meter *meter, int *lifeline) {
    int *const kept[] = {lifeline, &meter->offers, &meter->oom, &meter->oom_event, &meter->peak, &meter->pids_events};
    int next = LIS_CONTROL + 1, above = LIS_CONTROL + 1 + (int)LIS_COUNT(kept);
    for (size_t i = 0; i < LIS_COUNT(kept); i++) /* out of the way first: one may lie where another is to go */
        if (*kept[i] >= 0)
            *kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, above);
    for (size_t i = 0; i < LIS_COUNT(kept); i++)
        if (*kept[i] >= 0)
            *kept[i] = dup3(*kept[i], next++, O_CLOEXEC);
    sys_close_range((unsigned)next, ~0u, 0);
}

void lis_init_main(int sock, int lifeline, const struct lis_meter *meter, const struct lis_user *user) {
    struct init init = {.meter = *meter, .user = *user};
    if (sock != LIS_CONTROL)
        dup3(sock, LIS_CONTROL, O_CLOEXEC);
    keep_descriptors(&init.meter, &lifeline);
    int r = prepare(&init, lifeline);
    if (r < 0) {
        struct lis_fault fault;
        lis_fail(&fault, LIS_STAGE_INIT, -r, NULL);
        lis_send_fault(LIS_CONTROL, &fault);
        _exit(1);
    }
    struct lis_header ready = {LIS_MAGIC, LIS_READY};
    lis_send(LIS_CONTROL, &ready, sizeof ready, NULL, 0);
    for (;;) {
        struct epoll_event events[32];
        int n = epoll_wait(init.epoll, events, LIS_COUNT(events), run_clock(&init));
        bool reaping = false, serving = false, looking = false;
        for (int i = 0; i < n; i++) {
            struct lis_watch *what = events[i].data.ptr;
            reaping |= what->kind == LIS_WATCH_SIGNALS;
            serving |= what->kind == LIS_WATCH_CONTROL;
            looking |= what->kind == LIS_WATCH_LIMIT;
            if (what->kind == LIS_WATCH_LIFELINE)
                _exit(0); /* nobody ever writes to it: the spawner has died */
            if (what->kind == LIS_WATCH_COMMAND)
                begin_kill(&init, (struct lis_command *)what, 0);
            else if (what->kind == LIS_WATCH_DRAIN)
                lis_drain_continue(init.epoll, what, init.buffer, MAX_MESSAGE);
            else if (what->kind == LIS_WATCH_LISTENER)
                lis_gateway_accept(&init.gateway, what);
            else if (what->kind == LIS_WATCH_DIAL)
                lis_dial_continue(init.epoll, (struct lis_dial *)what);
        }
        if (looking && !reaping)
            look_at_limits(&init);
        if (reaping) /* after the rest: it frees commands that an event may still name */
            reap(&init);
        if (serving)
            serve(&init);
    }
}
