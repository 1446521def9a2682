/* System V shared memory of a sandbox: what is left when all its processes are dead. */
#define _GNU_SOURCE
#include "inside.h"

#include <sys/prctl.h>
#include <sys/shm.h>
#include <unistd.h>

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15 /* since Linux 4.17 */
#endif

/* As whom it belongs to: the ipc namespace is U0's, and root in here has no power over what others have in it. */
static void remove_segment(const struct lis_user *user, int id, uid_t owner) {
    if (shmctl(id, IPC_RMID, NULL) == 0 || !user->is_real || setresuid((uid_t)-1, owner, (uid_t)-1) < 0)
        return;
    shmctl(id, IPC_RMID, NULL);
    if (setresuid((uid_t)-1, 0, (uid_t)-1) < 0)
        _exit(1);                       /* never seen to fail; nobody must be served by a PID 1 that is somebody else */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* fs.suid_dumpable may say otherwise */
}

/* They outlive the processes that made them, and would fill the sandbox until its end. */
void lis_shm_remove_all(const struct lis_user *user) {
    struct shm_info info;
    int last = shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info);
    for (int at = 0; at <= last; at++) {
        struct shmid_ds segment;
        int id = shmctl(at, SHM_STAT_ANY, &segment); /* also those that may not be read */
        if (id >= 0)
            remove_segment(user, id, segment.shm_perm.uid);
    }
}
