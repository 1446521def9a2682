/* Accounts: what each sandbox may use and has used, in a memory file that the spawner shares with its watchdogs and with
 * PID 1 of every sandbox. Programs inside have it nowhere: an exec drops the mapping, and the descriptors. */
#define _GNU_SOURCE
#include "bounds.h"
#include "lis.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "util.h"

#define TABLE_SIZE (sizeof(struct lis_account_table) + LIS_MAX_ACCOUNTS * sizeof(struct lis_account))

int lis_accounts_map(int memory, struct lis_account_table **ret_table) {
    void *table = mmap(NULL, TABLE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (table == MAP_FAILED)
        return -errno;
    *ret_table = table;
    return 0;
}

int lis_accounts_open(struct lis_accounts *ret_accounts) {
    cleanup_fd int memory = memfd_create("accounts", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* sealed in size, or whoever got hold of it could have everybody else killed by SIGBUS */
    if (memory < 0 || ftruncate(memory, TABLE_SIZE) < 0 || fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
        return -errno;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    int r = lis_accounts_map(memory, &ret_accounts->table);
    if (r < 0) {
        close(pair[0]);
        close(pair[1]);
        return r;
    }
    ret_accounts->memory = lis_take_fd(&memory);
    ret_accounts->offers = pair[0];
    ret_accounts->offers_in = pair[1];
    return 0;
}

struct lis_account *lis_account_take(struct lis_account_table *table) {
    for (uint32_t i = 0; i < LIS_MAX_ACCOUNTS; i++) {
        struct lis_account *account = &table->at[i];
        if (account->id[0])
            continue;
        memset(account, 0, sizeof *account);
        account->number = i;
        if (i >= table->used)
            LIS_STORE(table->used, i + 1);
        return account;
    }
    return NULL;
}

void lis_account_free(struct lis_account *account) {
    LIS_STORE(account->pid, 0);
    account->id[0] = 0;
}
