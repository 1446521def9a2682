/* Accounts: what each sandbox may use and has used, in memory that the spawner shares with what it forks. PID 1 of every
 * sandbox has all of them mapped; programs inside have none: an exec drops the mapping. */
#define _GNU_SOURCE
#include "lis.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "util.h"

int lis_accounts_open(struct lis_accounts **ret_accounts) {
    const size_t size = sizeof(struct lis_accounts) + LIS_MAX_ACCOUNTS * sizeof(struct lis_account);
    struct lis_accounts *accounts =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (accounts == MAP_FAILED)
        return -errno;
    accounts->at = (struct lis_account *)(accounts + 1);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        int r = -errno;
        munmap(accounts, size);
        return r;
    }
    accounts->offers = pair[0];
    accounts->offers_in = pair[1];
    *ret_accounts = accounts;
    return 0;
}

struct lis_account *lis_account_take(struct lis_accounts *accounts) {
    for (uint32_t i = 0; i < LIS_MAX_ACCOUNTS; i++) {
        struct lis_account *account = &accounts->at[i];
        if (account->id[0])
            continue;
        memset(account, 0, sizeof *account);
        account->number = i;
        if (i >= accounts->used)
            LIS_STORE(accounts->used, i + 1);
        return account;
    }
    return NULL;
}

void lis_account_free(struct lis_account *account) {
    LIS_STORE(account->pid, 0);
    account->id[0] = 0;
}
