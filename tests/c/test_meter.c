/* What PID 1 knows of its limits: counters in files as the kernel writes them, and an account. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bounds.h"
#include "inside.h"
#include "lis.h"
#include "tap.h"

static int file(const char *text) {
    int fd = memfd_create("counter", MFD_CLOEXEC);
    check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "a file");
    return fd;
}

static void rewrite(int fd, const char *text) {
    check(ftruncate(fd, 0) == 0 && pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text), "a new text");
}

static struct lis_meter meter_of(int oom, int peak, int pids_events, struct lis_account *account) {
    return (struct lis_meter){
        .account = account, .offers = -1, .oom = oom, .oom_event = -1, .peak = peak, .pids_events = pids_events};
}

static void version_2(void) {
    int events = file("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n"), pids = file("max 0\n");
    int peak = file("123456\n");
    struct lis_meter meter = meter_of(events, peak, pids, NULL);
    lis_meter_init(&meter);
    check(lis_meter_passed(&meter) == 0, "what was there before does not count");
    rewrite(events, "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 5\n");
    check(lis_meter_passed(&meter) == 0, "only oom_kill does, not a name that begins or ends like it");
    rewrite(events, "low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 0\n");
    check(lis_meter_passed(&meter) == LIS_EXIT_OUT_OF_MEMORY, "it has grown");
    check(lis_meter_passed(&meter) == 0, "once");
    rewrite(events, "low 0\nhigh 0\nmax 9\noom 2\noom_kill 4\noom_group_kill 0\n");
    check(lis_meter_passed(&meter) == 0, "a kill without this limit being reached is somebody else's");
    rewrite(pids, "max 7\n");
    check(lis_meter_passed(&meter) == LIS_EXIT_PIDS, "a fork was refused");
    check(lis_meter_peak(&meter) == 123456, "the peak");
    lis_meter_begin(&meter, false);
    check(lis_meter_peak(&meter) == 123456, "beside another command it goes on");
    lis_meter_begin(&meter, true);
    char text[8] = "";
    check(pread(peak, text, 1, 0) == 1 && text[0] == '0', "alone, it is set back");
}

static void version_1(void) {
    int control = file("oom_kill_disable 0\nunder_oom 0\noom_kill 12\n");
    struct lis_meter meter = meter_of(control, -1, -1, NULL);
    lis_meter_init(&meter);
    rewrite(control, "oom_kill_disable 0\nunder_oom 1\noom_kill 13\n");
    check(lis_meter_passed(&meter) == LIS_EXIT_OUT_OF_MEMORY, "oom_kill at the end of the file");
    rewrite(control, "nothing of the kind\n");
    check(lis_meter_passed(&meter) == 0, "a file without it is no reason");
}

static void an_account(void) {
    struct lis_accounts accounts;
    check(lis_accounts_open(&accounts) == 0, "accounts");
    struct lis_account *first = lis_account_take(accounts.table), *second = NULL;
    strcpy(first->id, "b1");
    second = lis_account_take(accounts.table);
    check(first && second && first != second && second->number == 1 && accounts.table->used == 2, "one each");
    struct lis_meter meter = meter_of(-1, -1, -1, first);
    lis_meter_init(&meter);
    LIS_STORE(first->memory_over, 1);
    LIS_STORE(first->memory_peak, 99);
    check(lis_meter_passed(&meter) == LIS_EXIT_OUT_OF_MEMORY && lis_meter_passed(&meter) == 0, "told once");
    LIS_STORE(first->disk_over, 1);
    LIS_STORE(first->memory_over, 3);
    check(lis_meter_passed(&meter) == (LIS_EXIT_OUT_OF_MEMORY | LIS_EXIT_DISK), "both");
    check(lis_meter_peak(&meter) == 99, "the watchdog's peak");
    lis_meter_busy(&meter, true);
    check(LIS_LOAD(first->busy) == 1, "there are programs");
    lis_account_free(first);
    check(lis_account_take(accounts.table) == first && first->memory_over == 0 && first->busy == 0,
          "used again, clean");
}

int main(void) {
    version_2();
    version_1();
    an_account();
    return tap_done();
}
