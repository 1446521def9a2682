/* What PID 1 of a sandbox is made of. */
#pragma once

#include "bounds.h"
#include "lis.h"

/* ---- command.c: one program, started by PID 1 ------------------------------------------------------------------ */

enum { LIS_EXEC_STDIN = 1, LIS_EXEC_STDOUT = 2, LIS_EXEC_STDERR = 4, LIS_EXEC_TERMINAL = 8, LIS_EXEC_BODY = 16 };
enum { LIS_AT_PROGRAM = 1, LIS_AT_CWD = 2, LIS_AT_SETUP = 3 };
enum {
    LIS_EXIT_TIMED_OUT = 1,
    LIS_EXIT_SURVIVORS = 2,
    LIS_EXIT_OUT_OF_MEMORY = 4, /* the sandbox was, and everything in it was killed */
    LIS_EXIT_DISK = 8,          /* likewise */
    LIS_EXIT_PIDS = 16          /* there was no room for another process or thread */
};

struct lis_exec_message {
    struct lis_header header;
    uint32_t flags, argc, envc, rows_columns;
    uint64_t timeout_ns; /* 0: none */
    /* then NUL-terminated: cwd, argv..., env...; in a memory file instead when LIS_EXEC_BODY is set */
};
struct lis_exit_message {
    struct lis_header header;
    uint32_t flags;
    int32_t wait_status, err, at; /* err and at: of LIS_NOT_STARTED */
    uint64_t wall_ns, cpu_ns, max_rss, written;
    uint64_t memory_peak; /* of the sandbox; 0: not known */
};
/* What init waits for, first in each of the structures that epoll hands back. */
struct lis_watch {
    enum {
        LIS_WATCH_CONTROL,
        LIS_WATCH_SIGNALS,
        LIS_WATCH_COMMAND,
        LIS_WATCH_DRAIN,
        LIS_WATCH_LIMIT,
        LIS_WATCH_LIFELINE,
        LIS_WATCH_LISTENER,
        LIS_WATCH_DIAL
    } kind;
    int fd;
};
struct lis_command {
    struct lis_watch watch; /* its socket: the answer goes out here; end of file on it means "kill it" */
    struct lis_command *next;
    pid_t pid;
    uint32_t tag, flags;
    uint64_t started, ended, deadline, give_up; /* ns; 0: none */
    bool killing, exited;
    unsigned freezes, looks;
    int status;
    uint64_t cpu_ns, max_rss, written;
};
struct lis_tag_base {
    uint64_t up, down; /* see tree.c */
    /* open files that a command is allowed, when PID 1 has raised its own; else hard is 0 */
    uint64_t soft_files, hard_files;
    uint64_t pids; /* processes and threads that commands may have in all, PID 1 among them; 0: no limit of ours */
};

/* The strings of an EXEC. They point into its text; argv, NULL-terminated like envp, is the one allocation of both. */
struct lis_exec_strings {
    const char *cwd;
    char **argv, **envp;
};
/* -EPROTO when the text does not hold as many strings as it should. Free ret->argv. */
int lis_exec_split(char *text, size_t size, uint32_t argc, uint32_t envc, struct lis_exec_strings *ret);
/* Says on a command's socket that it was not started, and why. Returns -err. */
int lis_command_refuse(int ctl, int err, int at);
/* Starts what the message asks for. 0 and *ret_command, or -errno after LIS_NOT_STARTED was sent on the command's socket.
 * A program that then can't be executed says so on the socket itself, before it exits. */
int lis_command_start(const struct lis_tag_base *base, const struct lis_user *user, uint32_t tag,
                      const struct lis_exec_message *message, size_t size, int fds[LIS_MAX_FDS], int nfds,
                      struct lis_command **ret_command);

/* ---- tree.c: everything that descends from one command --------------------------------------------------------- */

int lis_tag_base(struct lis_tag_base *ret_base);
/* In the child, before exec: every descendant inherits the mark and none can remove it. */
int lis_tag_set(const struct lis_tag_base *base, uint32_t tag);
/* One pass of SIGKILL over the tree. Returns how many of its processes are not dead yet. */
int lis_tree_kill(int proc, const struct lis_tag_base *base, uint32_t tag);
/* The same with everything stopped meanwhile, for a tree that forks faster than a pass kills. Whatever was stopped before
 * runs on afterwards, too. */
int lis_tree_kill_frozen(int proc, const struct lis_tag_base *base, uint32_t tag);
/* Processes and threads in the sandbox, PID 1 among them. */
uint64_t lis_tree_tasks(int proc);
/* Stops what commands have left behind. Returns how many processes that are; on failure none is stopped. */
int lis_tree_stop(int proc, const struct lis_tag_base *base);

/* ---- files.c: file requests, served inside the sandbox by a child of PID 1 -------------------------------------- */

#define LIS_EXACT_MODE 010000 /* OPEN_WRITE: the mode is for a file that is there, too */

enum lis_file_op { LIS_OPEN_READ = 1, LIS_OPEN_WRITE = 2, LIS_LIST = 3, LIS_MKDIR = 4, LIS_SYMLINK = 5, LIS_STAT = 6 };

struct lis_file_request {
    struct lis_header header;
    uint32_t op, mode;
    /* then the path and, for a symlink, its target; both NUL-terminated */
};
struct lis_file_reply {
    struct lis_header header;
    int32_t err;
    uint32_t mode; /* type and permissions */
    uint64_t size;
    uint32_t
        more; /* LIST: another entry follows. OPEN_WRITE: one without a descriptor follows when the server's own is closed */
    /* then, for LIST, the entry's name and link target, NUL-terminated */
};

/* The path, and the second string or "", which point into the request. -ENAMETOOLONG and -EINVAL are worth an answer;
 * after -EPROTO there is nobody to talk to. */
int lis_file_request_decode(const struct lis_file_request *request, ssize_t size, const char **ret_path,
                            const char **ret_second);
/* Receives one request and answers it; < 0 when the connection is over. */
int lis_files_serve_one(int sock);
void lis_files_serve(int sock) __attribute__((noreturn));

/* ---- gateway.c: connections of programs, for the host's proxy ------------------------------------------------------ */

enum { LIS_PORT_HTTP = 3128, LIS_PORT_SOCKS = 1080, LIS_GATEWAY_PORTS = 2 };
struct lis_gateway {
    struct lis_watch listeners[LIS_GATEWAY_PORTS];
    int sock; /* to the gateway; 0: there is none */
};
/* Listens on the loopback and hands what connects there to the gateway, whom it tells how that went. Takes the socket over. */
int lis_gateway_open(struct lis_gateway *gateway, int epoll, int sock);
/* Somebody has connected. */
void lis_gateway_accept(struct lis_gateway *gateway, const struct lis_watch *listener);

/* ---- dial.c: connections of the host, to what listens inside ------------------------------------------------------- */

#define LIS_MOST_DIALS 64 /* that are not decided; more are refused */
struct lis_dial {
    struct lis_watch watch; /* the socket of whoever has asked; 0: nobody */
    int sock;
};
struct lis_dialler {
    struct lis_dial at[LIS_MOST_DIALS];
};
/* Connects, and answers on the socket that came with the message, now or later; never waits. Takes that socket over, and gives
 * up when its other end is closed. A message that is too short is answered by closing it. */
void lis_dial_begin(struct lis_dialler *dialler, int epoll, const struct lis_dial_message *message, size_t size,
                    int asked);
/* Something has happened to one of its descriptors, or to both of them. */
void lis_dial_continue(int epoll, struct lis_dial *dial);

/* ---- errands.c: other requests --------------------------------------------------------------------------------- */

#define LIS_CONTROL 3 /* PID 1's control socket; of a file server, its own */

/* Reads what comes out of these pipes, and forgets it. Takes them over. */
void lis_drain_begin(int epoll, const int fds[LIS_MAX_FDS], int nfds);
/* Something has come, or their end; then `drain` is freed. `buffer` is for what nobody wants. */
void lis_drain_continue(int epoll, struct lis_watch *drain, char *buffer, size_t size);
/* Hands out this process's own figures. Closes the sockets. */
void lis_memory_send(const int fds[LIS_MAX_FDS], int nfds);
/* One that serves file requests on the socket, which it takes over. */
void lis_file_server_start(const struct lis_user *user, int fds[LIS_MAX_FDS], int nfds);
/* The answer to LIS_FREEZE. Closes the sockets. */
void lis_frozen_send(int number, const int fds[LIS_MAX_FDS], int nfds);

/* ---- shm.c: what outlives the processes that made it ------------------------------------------------------------ */

/* All segments of this ipc namespace. */
void lis_shm_remove_all(const struct lis_user *user);

/* ---- init.c: PID 1 of one sandbox ------------------------------------------------------------------------------- */

/* `lifeline`: when nobody holds the other end of this pipe any more, the sandbox ends; -EBADF: there is none. The
 * descriptors in `meter` are moved; those that are named nowhere are closed. */
void lis_init_main(int sock, int lifeline, const struct lis_meter *meter, const struct lis_user *user)
    __attribute__((noreturn));
