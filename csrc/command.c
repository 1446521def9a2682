/* Starting one program. A fork, though vfork would copy less: PID 1 would then wait until the exec, and what runs in the
 * sandbox can stop the child (SIGSTOP) before that, or have it hang in a chdir to a dead network mount. What goes wrong
 * the child tells on the command's socket itself; PID 1 has nothing to wait for. */
#define _GNU_SOURCE
#include "inside.h"
#include "lis.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER 0x5441
#endif

#define MAX_BODY ((off_t)256 << 20)

struct child {
    const struct lis_tag_base *base;
    const struct lis_user *user;
    struct lis_exec_strings strings;
    int stdio[3];
    uint32_t tag;
    bool has_terminal;
};

static const char *search_path(char *const envp[]) {
    for (; *envp; envp++)
        if (strncmp(*envp, "PATH=", 5) == 0)
            return *envp + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

/* execvpe, but no shell is put before a file that is no program, and no allocation. Returns the errno to report. */
static int exec_program(char *const argv[], char *const envp[]) {
    const char *name = argv[0];
    if (strchr(name, '/') || name[0] == 0) {
        execve(name, argv, envp);
        return errno;
    }
    char candidate[PATH_MAX];
    int denied = 0;
    for (const char *dir = search_path(envp);; dir++) {
        size_t length = strcspn(dir, ":");
        int size = snprintf(candidate, sizeof candidate, "%.*s%s%s", (int)length, dir, length ? "/" : "", name);
        if (size > 0 && size < (int)sizeof candidate) {
            execve(candidate, argv, envp);
            if (errno == EACCES)
                denied = EACCES; /* a later directory may hold one that can be run */
            else if (errno != ENOENT && errno != ENOTDIR)
                return errno;
        }
        dir += length;
        if (*dir == 0)
            return denied ? denied : ENOENT;
    }
}

static void run_child(struct child *child, int ctl) __attribute__((noreturn));
static void run_child(struct child *child, int ctl) {
    sigset_t none;
    sigemptyset(&none);
    int at = LIS_AT_SETUP, err = 0;
    setsid();
    if (child->has_terminal && ioctl(child->stdio[0], TIOCSCTTY, 0) < 0)
        err = errno;
    for (int i = 0; i < 3 && !err; i++) {
        int from = child->stdio[i] >= 0 ? child->stdio[i] : open("/dev/null", i ? O_WRONLY : O_RDONLY);
        if (from < 0 || dup2(from, i) < 0)
            err = errno;
    }
    if (!err)
        err = -lis_tag_set(child->base, child->tag);
    if (!err)
        err = -lis_become(child->user);
    if (!err) {
        at = LIS_AT_CWD;
        err = chdir(child->strings.cwd) < 0 ? errno : 0;
    }
    if (!err) {
        at = LIS_AT_PROGRAM;
        sys_close_range(3, ~0u,
                        SYS_CLOSE_RANGE_CLOEXEC); /* all are close-on-exec from birth; this is the second lock */
        sigprocmask(SIG_SETMASK, &none, NULL);
        err = exec_program(child->strings.argv, child->strings.envp);
    }
    lis_command_refuse(ctl, err, at);
    _exit(127);
}

int lis_exec_split(char *text, size_t size, uint32_t argc, uint32_t envc, struct lis_exec_strings *ret) {
    size_t count = (size_t)argc + envc;
    if (argc == 0 || size == 0 || text[size - 1] != 0 || count > size)
        return -EPROTO;
    char **pointers = calloc(count + 2, sizeof *pointers);
    if (!pointers)
        return -ENOMEM;
    char *at = text, *end = text + size;
    at += strlen(at) + 1;
    for (size_t i = 0; i < count; i++) {
        if (at >= end) {
            free(pointers);
            return -EPROTO;
        }
        pointers[i + (i >= argc)] = at;
        at += strlen(at) + 1;
    }
    *ret = (struct lis_exec_strings){text, pointers, pointers + argc + 1};
    return 0;
}

static int read_body(int fd, char **ret_text, size_t *ret_size) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size <= 0 || st.st_size > MAX_BODY)
        return -E2BIG;
    cleanup_free char *text = malloc((size_t)st.st_size);
    if (!text)
        return -ENOMEM;
    for (off_t done = 0; done < st.st_size;) {
        ssize_t got = LIS_RETRY(pread(fd, text + done, (size_t)(st.st_size - done), done));
        if (got <= 0)
            return got < 0 ? -errno : -EPROTO;
        done += got;
    }
    *ret_text = text;
    *ret_size = (size_t)st.st_size;
    text = NULL;
    return 0;
}

static int open_terminal(const struct lis_user *user, int ctl, uint32_t rows_columns, int *ret_slave) {
    cleanup_fd int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int unlock = 0;
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return -errno;
    struct winsize size = {.ws_row = (unsigned short)(rows_columns >> 16), .ws_col = (unsigned short)rows_columns};
    ioctl(master, TIOCSWINSZ, &size);
    cleanup_fd int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0 || (user->is_real && fchown(slave, user->uid, user->gid) < 0))
        return -errno;
    struct lis_header header = {LIS_MAGIC, LIS_TERMINAL};
    int r = lis_send(ctl, &header, sizeof header, (int[]){master}, 1);
    if (r < 0)
        return r;
    *ret_slave = lis_take_fd(&slave);
    return 0;
}

int lis_command_refuse(int ctl, int err, int at) {
    struct lis_exit_message message = {.header = {LIS_MAGIC, LIS_NOT_STARTED}, .err = err, .at = at};
    lis_send(ctl, &message, sizeof message, NULL, 0);
    return -err;
}

static int start(const struct lis_tag_base *base, const struct lis_user *user, uint32_t tag,
                 const struct lis_exec_message *message, char *text, size_t size, int ctl, const int stdio[3],
                 struct lis_command **ret_command) {
    struct child child = {.base = base, .user = user, .tag = tag, .stdio = {stdio[0], stdio[1], stdio[2]}};
    cleanup_free char **pointers = NULL;
    cleanup_fd int terminal = -EBADF;
    int r = lis_exec_split(text, size, message->argc, message->envc, &child.strings);
    if (r == 0)
        pointers = child.strings.argv;
    if (r == 0 && message->flags & LIS_EXEC_TERMINAL)
        r = open_terminal(user, ctl, message->rows_columns, &terminal);
    cleanup_free struct lis_command *command = calloc(1, sizeof *command);
    if (r < 0 || !command)
        return lis_command_refuse(ctl, r < 0 ? -r : ENOMEM, LIS_AT_SETUP);
    if (terminal >= 0) {
        child.has_terminal = true;
        for (int i = 0; i < 3; i++)
            child.stdio[i] = terminal;
    }
    uint64_t started = lis_now_ns();
    pid_t pid = fork();
    if (pid == 0)
        run_child(&child, ctl);
    if (pid < 0)
        return lis_command_refuse(ctl, errno, LIS_AT_SETUP);
    *command = (struct lis_command){.watch = {LIS_WATCH_COMMAND, ctl}, .pid = pid, .tag = tag, .started = started};
    if (message->timeout_ns)
        command->deadline = message->timeout_ns < UINT64_MAX - started ? started + message->timeout_ns : UINT64_MAX;
    *ret_command = command;
    command = NULL;
    return 0;
}

int lis_command_start(const struct lis_tag_base *base, const struct lis_user *user, uint32_t tag,
                      const struct lis_exec_message *message, size_t size, int fds[LIS_MAX_FDS], int nfds,
                      struct lis_command **ret_command) {
    int next = 0, stdio[3] = {-1, -1, -1}, ctl = -1;
    cleanup_free char *body = NULL;
    char *text = (char *)(uintptr_t)(message + 1);
    size_t text_size = size - sizeof *message;
    int r = 0;
    if (message->flags & LIS_EXEC_BODY)
        r = next < nfds ? read_body(fds[next++], &body, &text_size) : -EPROTO;
    if (body)
        text = body;
    if (next < nfds)
        ctl = fds[next++];
    for (int i = 0; i < 3; i++)
        if (message->flags & (LIS_EXEC_STDIN << i) && next < nfds)
            stdio[i] = fds[next++];
    if (ctl < 0 || next != nfds)
        r = -EPROTO;
    else if (r < 0)
        lis_command_refuse(ctl, -r, LIS_AT_SETUP);
    else
        r = start(base, user, tag, message, text, text_size, ctl, stdio, ret_command);
    for (int i = 0; i < nfds; i++)
        if (fds[i] != ctl || r < 0)
            close(fds[i]);
    return r;
}
