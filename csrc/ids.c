/* Maps of user ids: one id, which is all that a user can give away alone, or the ranges that the administrator has given it
 * in /etc/subuid and /etc/subgid, which newuidmap and newgidmap write. */
#define _GNU_SOURCE
#include "lis.h"
#include "outside.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "sys.h"
#include "util.h"

int lis_map_ids(int proc, uid_t uid, gid_t gid, uid_t outer_uid, gid_t outer_gid) {
    char line[64];
    int r = lis_write_file(proc, "self/setgroups", "deny");
    if (r < 0)
        return r;
    snprintf(line, sizeof line, "%u %u 1\n", gid, outer_gid);
    r = lis_write_file(proc, "self/gid_map", line);
    if (r < 0)
        return r;
    snprintf(line, sizeof line, "%u %u 1\n", uid, outer_uid);
    return lis_write_file(proc, "self/uid_map", line);
}

/* Who writes the maps of a process that enters a new user namespace must have stayed in the old one: a child, from before. */
struct mapper {
    pid_t pid, subject;
    int go[2];
};

static int wait_for_child(pid_t pid) {
    int status;
    if (LIS_RETRY(waitpid(pid, &status, 0)) < 0)
        return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

/* In the child: true once its parent is in its new namespace, false when that failed. */
static bool is_told(struct mapper *mapper) {
    char byte;
    close(mapper->go[1]);
    return LIS_RETRY(read(mapper->go[0], &byte, 1)) == 1;
}

static int start_mapper(struct mapper *mapper) {
    mapper->subject = getpid();
    if (pipe2(mapper->go, O_CLOEXEC) < 0)
        return -errno;
    mapper->pid = fork();
    if (mapper->pid < 0) {
        int err = errno;
        close(mapper->go[0]);
        close(mapper->go[1]);
        return -err;
    }
    return 0;
}

/* In the parent. The child's exit status is an errno. */
static int enter_mapped(struct mapper *mapper, enum lis_stage stage, struct lis_fault *fault) {
    int err = 0;
    close(mapper->go[0]);
    if (unshare(CLONE_NEWUSER) < 0)
        err = errno;
    else if (write(mapper->go[1], "", 1) != 1)
        err = errno;
    close(mapper->go[1]);
    int r = wait_for_child(mapper->pid);
    if (err)
        return lis_fail(fault, stage, err, NULL);
    return r < 0 ? lis_fail(fault, LIS_STAGE_ID_RANGES, -r, NULL) : 0;
}

static void run_tool(const char *tool, pid_t subject, uint32_t own, uint32_t first, uint32_t count)
    __attribute__((noreturn));
static void run_tool(const char *tool, pid_t subject, uint32_t own, uint32_t first, uint32_t count) {
    char numbers[4][16];
    snprintf(numbers[0], sizeof numbers[0], "%d", subject);
    snprintf(numbers[1], sizeof numbers[1], "%u", own);
    snprintf(numbers[2], sizeof numbers[2], "%u", first);
    snprintf(numbers[3], sizeof numbers[3], "%u", count);
    char *const argv[] = {(char *)(uintptr_t)tool, numbers[0], "0", numbers[1], "1", "1", numbers[2], numbers[3], NULL};
    char *const envp[] = {NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC); /* what it has to say would land in the terminal of a trainer */
    for (int fd = 0; fd < 3 && null >= 0; fd++)
        dup2(null, fd);
    execve(tool, argv, envp);
    _exit(errno);
}

static int run_tools(const struct lis_id_ranges *ranges, pid_t subject, uid_t uid, gid_t gid) {
    for (int groups = 0; groups < 2; groups++) {
        pid_t pid = fork();
        if (pid == 0 && groups)
            run_tool(ranges->gid_tool, subject, gid, ranges->gid, ranges->gids);
        if (pid == 0)
            run_tool(ranges->uid_tool, subject, uid, ranges->uid, ranges->uids);
        int r = pid < 0 ? -errno : wait_for_child(pid);
        if (r < 0)
            return r; /* 1, which the tools exit with, reads as EPERM, which is what it means */
    }
    return 0;
}

int lis_enter_with_ranges(const struct lis_id_ranges *ranges, struct lis_fault *fault) {
    uid_t uid = geteuid();
    gid_t gid = getegid();
    struct mapper mapper;
    int r = start_mapper(&mapper);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, NULL);
    if (mapper.pid == 0)
        _exit(is_told(&mapper) ? -run_tools(ranges, mapper.subject, uid, gid) : ECANCELED);
    r = enter_mapped(&mapper, LIS_STAGE_USER_NAMESPACE, fault);
    /* an owner's process of another primary group, say, has ids of its own kind */
    if (r == 0 && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
        r = lis_fail(fault, LIS_STAGE_ID_RANGES, errno, NULL);
    return r;
}

/* From 0 on, as in the namespace around it. In two lines: one must not lie in two of the map above (EPERM). */
static int write_range(int proc, pid_t subject, const char *file, uint32_t count) {
    char path[40], lines[40];
    snprintf(path, sizeof path, "%d/%s", subject, file);
    snprintf(lines, sizeof lines, "0 0 1\n1 1 %u\n", count - 1);
    return lis_write_file(proc, path, lines);
}

int lis_enter_with_all_ids(int proc, uint32_t uids, uint32_t gids, struct lis_fault *fault) {
    struct mapper mapper;
    int r = start_mapper(&mapper);
    if (r < 0)
        return lis_fail(fault, LIS_STAGE_PROCESS, -r, NULL);
    if (mapper.pid == 0) {
        r = is_told(&mapper) ? write_range(proc, mapper.subject, "gid_map", gids) : -ECANCELED;
        if (r == 0)
            r = write_range(proc, mapper.subject, "uid_map", uids);
        _exit(-r);
    }
    return enter_mapped(&mapper, LIS_STAGE_NESTED_USER_NAMESPACE, fault);
}

int lis_become(const struct lis_user *user) {
    static const int init_only[] = {CAP_SYS_RESOURCE, CAP_SETPCAP}; /* the last one takes itself away */
    if (!user->is_real)
        return 0;
    for (size_t i = 0; i < LIS_COUNT(init_only); i++)
        if (prctl(PR_CAPBSET_DROP, init_only[i], 0, 0, 0) < 0)
            return -errno;
    if ((user->uid || user->gid) && (setgroups(0, NULL) < 0 || setresgid(user->gid, user->gid, user->gid) < 0))
        return -errno;
    if (user->uid)
        /* and with that all capabilities are gone; this memory is PID 1's still (fs.suid_dumpable may say 1) */
        return setresuid(user->uid, user->uid, user->uid) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
    return lis_set_capabilities(LIS_KEPT_BY_ROOT);
}

int lis_collect_main(const char *base, const struct lis_id_ranges *ranges) {
    struct lis_fault fault;
    cleanup_fd int dir = open(base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || lis_enter_with_ranges(ranges, &fault) < 0)
        return 1;
    int removed = lis_collect(dir);
    printf("removed %d\n", removed); /* also says that the ids were to be had: `lisrt doctor` */
    return removed < 0;
}
