/* lisrt-floor OWNER LAYER... -- SOURCE=TARGET...: answers lines on stdin with nanoseconds on stdout.
 *
 *   create, exec, fork, destroy    one operation on one sandbox: "ok NS"
 *   many N JOBS COMMANDS [SCRIPT]  N sandboxes alive at once, JOBS operations in flight, COMMANDS in each, /bin/true or bash
 *                                  with that script: three lines, for create, exec, destroy: the wall-clock time, then how
 *                                  long each took and when it ended
 * OWNER is an empty directory for what sandboxes write. Ends with its stdin, and everything with it. */
#define _GNU_SOURCE
#include "floor.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

static struct box make_box(void) {
    static unsigned number;
    struct box box = {.sock = -EBADF};
    snprintf(box.id, sizeof box.id, "b%08x", number++);
    return box;
}

static void answer(int r, uint64_t started) {
    if (r < 0)
        printf("error %s\n", strerror(-r));
    else
        printf("ok %llu\n", (unsigned long long)(lis_now_ns() - started));
}

static void remove_files(const struct box *box) {
    char name[32];
    snprintf(name, sizeof name, "/s/%s", box->id);
    lis_remove_tree(AT_FDCWD, name);
}

/* At the end: what the last sandbox has, and what forks have left below others. */
static void remove_all(void) {
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    DIR *listing = opendir("/s");
    for (struct dirent *entry; listing && (entry = readdir(listing));)
        if (entry->d_name[0] != '.')
            lis_remove_tree(dirfd(listing), entry->d_name);
    if (listing)
        closedir(listing);
}

/* One operation after the other. */
static void do_one(struct world *world, const char *what) {
    static struct box box;
    struct run run;
    uint64_t started = lis_now_ns();
    int r = -EINVAL;
    if (strcmp(what, "create") == 0) {
        box = make_box();
        started = lis_now_ns();
        r = floor_create(world, &box);
        r = r == 0 ? floor_ready(&box) : r;
    } else if (strcmp(what, "exec") == 0) {
        r = floor_exec_begin(&box, &run);
        r = r == 0 ? floor_exec_end(&box, &run) : r;
    } else if (strcmp(what, "destroy") == 0) {
        r = floor_destroy_begin(&box);
        r = r == 0 ? floor_destroy_end(&box) : r;
        answer(r, started);
        if (r == 0)
            floor_reap(&box);
        remove_files(&box);
        return lis_network_refill(
            &world->networks); /* now, as nothing is measured: lisrt waits for such a moment, too */
    } else if (strcmp(what, "fork") == 0) {
        struct box twin = make_box();
        started = lis_now_ns();
        r = floor_fork(world, &box, &twin);
        answer(r, started);
        if (r == 0)
            r = floor_ready(&box);
        if (floor_destroy_begin(&twin) == 0)
            floor_reap(&twin);
        return remove_files(&twin);
    }
    answer(r > 0 ? -EIO : r, started);
}

struct slot {
    struct box box;
    struct run run;
    uint64_t started;
};
struct times {
    uint64_t started, wall;
    struct taken {
        uint64_t took, ended; /* the latter since `started` */
    } *each;
};

static void note(struct times *times, int number, uint64_t began) {
    uint64_t now = lis_now_ns();
    times->each[number] = (struct taken){now - began, now - times->started};
    times->wall = now - times->started;
}

enum operation { CREATE, EXEC, DESTROY };

static int begin(struct world *world, enum operation operation, struct slot *slot) {
    return operation == CREATE ? floor_create(world, &slot->box)
           : operation == EXEC ? floor_exec_begin(&slot->box, &slot->run)
                               : floor_destroy_begin(&slot->box);
}

static int end(enum operation operation, struct slot *slot) {
    return operation == CREATE ? floor_ready(&slot->box)
           : operation == EXEC ? floor_exec_end(&slot->box, &slot->run)
                               : floor_destroy_end(&slot->box);
}

/* JOBS operations in flight over N sandboxes, `rounds` times each on average. One that is through goes to the end of the queue: with a fixed
 * order a slow one was asked again before it had answered. */
static int in_flight(struct world *world, enum operation operation, struct slot *slots, int n, int jobs, int rounds,
                     struct times *times) {
    cleanup_fd int epoll = epoll_create1(EPOLL_CLOEXEC);
    cleanup_free struct slot **queue = calloc((size_t)n * (size_t)rounds, sizeof(struct slot *));
    int begun = 0, ended = 0, queued = n, total = n * rounds;
    if (epoll < 0 || !queue)
        return -ENOMEM;
    for (int i = 0; i < n; i++)
        queue[i] = &slots[i];
    times->started = lis_now_ns();
    while (ended < total) {
        for (; begun < queued && begun - ended < jobs; begun++) {
            struct slot *slot = queue[begun];
            struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.ptr = slot};
            slot->started = lis_now_ns();
            int r = begin(world, operation, slot);
            if (r == 0 && epoll_ctl(epoll, begun < n ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, slot->box.sock, &event) < 0)
                r = -errno;
            if (r < 0)
                return r;
        }
        struct epoll_event events[32];
        int count = LIS_RETRY(epoll_wait(epoll, events, LIS_COUNT(events), -1));
        for (int i = 0; i < count; i++) {
            struct slot *slot = events[i].data.ptr;
            int r = end(operation, slot);
            if (r != 0)
                return r < 0 ? r : -EIO;
            note(times, ended++, slot->started);
            if (queued < total)
                queue[queued++] = slot;
        }
    }
    return 0;
}

static void print_times(const char *what, const struct times *times, int n) {
    printf("%s %llu", what, (unsigned long long)times->wall);
    for (int i = 0; i < n; i++)
        printf(" %llu %llu", (unsigned long long)times->each[i].took, (unsigned long long)times->each[i].ended);
    puts("");
}

static void do_many(struct world *world, int n, int jobs, int commands) {
    cleanup_free struct slot *slots = calloc((size_t)n, sizeof *slots);
    cleanup_free struct taken *each = calloc((size_t)n * (size_t)commands, sizeof *each);
    struct times times = {.each = each};
    int r = slots && each ? 0 : -ENOMEM;
    for (int i = 0; r == 0 && i < n; i++)
        slots[i].box = make_box();
    if (r == 0)
        r = in_flight(world, CREATE, slots, n, jobs, 1, &times);
    if (r == 0)
        print_times("create", &times, n);
    if (r == 0)
        r = in_flight(world, EXEC, slots, n, jobs, commands, &times);
    if (r == 0)
        print_times("exec", &times, n * commands);
    if (r == 0)
        r = in_flight(world, DESTROY, slots, n, jobs, 1, &times);
    if (r == 0)
        print_times("destroy", &times, n);
    if (r < 0)
        printf("error %s\n", strerror(-r));
    for (int i = 0; slots && i < n; i++) {
        if (slots[i].box.pid > 0) { /* what failed on the way has not been killed */
            kill(slots[i].box.pid, SIGKILL);
            floor_reap(&slots[i].box);
        }
        remove_files(&slots[i].box);
    }
}

/* The layers, and what is bound in the image, as the lean namespace knows them. */
static int open_image(struct world *world, int argc, char **argv, struct lis_fault *fault) {
    static char lower[4096];
    static struct floor_bind binds[LIS_MAX_STEPS];
    int at = 0, length = 0;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        int index = lis_host_layer(&world->host, argv[at], fault);
        if (index < 0)
            return index;
        length += snprintf(lower + length, sizeof lower - (size_t)length, "%s/l/%d", length ? ":" : "", index);
        if (length >= (int)sizeof lower)
            return lis_fail(fault, LIS_STAGE_OVERLAY, E2BIG, NULL);
    }
    for (at++; at < argc && world->nbinds < LIS_MAX_STEPS; at++) {
        char *place = NULL, *equals = strchr(argv[at], '=');
        if (!equals)
            return lis_fail(fault, LIS_STAGE_REQUEST, EINVAL, argv[at]);
        *equals = 0;
        int index = lis_host_layer(&world->host, argv[at], fault);
        if (index < 0 || asprintf(&place, "/l/%d", index) < 0)
            return index < 0 ? index : -ENOMEM;
        binds[world->nbinds++] = (struct floor_bind){place, equals + 1};
    }
    world->lower = lower;
    world->binds = binds;
    return 0;
}

static int serve(const char *owner, int argc, char **argv) {
    static struct world world;
    struct lis_fault fault = {0};
    struct rlimit files;
    int owner_dir = open(owner, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){files.rlim_max, files.rlim_max});
    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    if (owner_dir < 0 || lis_host_open(&world.host, owner, owner_dir, &fault) < 0 ||
        open_image(&world, argc, argv, &fault) < 0 || lis_filter_build(LIS_FILTER_EMULATE_ROOT, &world.filter) < 0) {
        printf("error %s %s %s\n", lis_stage_slug(fault.stage), strerror(fault.err), fault.path);
        return 1;
    }
    puts("ok 0");
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        int n, jobs, commands, script = 0;
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "many %d %d %d %n", &n, &jobs, &commands, &script) == 3 && n > 0 && jobs > 0 && commands > 0) {
            world.script = script && line[script] ? line + script : NULL;
            do_many(&world, n, jobs, commands);
            world.script = NULL;
        } else
            do_one(&world, line);
    }
    remove_all();
    return 0;
}

int main(int argc, char **argv) {
    struct lis_fault fault;
    if (argc < 3)
        return 2;
    if (lis_forget_parent() < 0 || lis_host_enter_user_namespace(NULL, &fault) < 0 || unshare(CLONE_NEWPID) < 0) {
        printf("error %s\n", strerror(errno));
        return 1;
    }
    pid_t pid = fork(); /* PID 1 of its own namespace, as lisrt's spawner is: whatever ends it, all of it ends */
    if (pid == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0)
        return serve(argv[1], argc - 2, argv + 2);
    int status = 0;
    return pid < 0 || LIS_RETRY(waitpid(pid, &status, 0)) < 0 || status != 0;
}
