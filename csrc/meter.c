/* What PID 1 knows of its limits: counters of its control groups, read from files, and of its account. Nothing here waits
 * for anything that a program could hold up. */
#define _GNU_SOURCE
#include "bounds.h"
#include "inside.h"
#include "lis.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "util.h"

/* The number after `name` in a file of "name number" lines, or the one that the file begins with when name is empty. */
static bool read_counter(int fd, const char *name, uint64_t *ret) {
    char text[512];
    ssize_t got = fd < 0 ? -1 : LIS_RETRY(pread(fd, text, sizeof text - 1, 0));
    if (got <= 0)
        return false;
    text[got] = 0;
    size_t length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && (length == 0 || line[length] == ' '))
            return sscanf(line + length, "%lu", ret) == 1;
    }
    return false;
}

void lis_meter_init(struct lis_meter *meter) {
    read_counter(meter->oom, "oom_kill", &meter->oom_kills);
    meter->counts_ooms = read_counter(meter->oom, "oom", &meter->ooms); /* version 2 does */
    meter->reached = false;
    read_counter(meter->pids_events, "max", &meter->pids_refused);
}

/* Never waits long: the socket is everybody's, and full when the watchdog is behind. It asks again for what it misses. */
int lis_meter_offer(const struct lis_meter *meter, int proc, int patience_ms) {
    if (meter->offers < 0 || !meter->account->memory_limit)
        return 0;
    struct lis_offer_message message = {.number = meter->account->number};
    memcpy(message.id, meter->account->id, LIS_ID_SIZE);
    cleanup_fd int shm = open("/dev/shm", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct pollfd room = {.fd = meter->offers, .events = POLLOUT};
    if (shm < 0 || poll(&room, 1, patience_ms) < 0)
        return -errno;
    return room.revents & POLLOUT ? lis_send(meter->offers, &message, sizeof message, (int[]){proc, shm}, 2) : -EAGAIN;
}

static bool has_grown(int fd, const char *name, uint64_t *last) {
    uint64_t now = *last;
    bool grown = read_counter(fd, name, &now) && now > *last;
    *last = now;
    return grown;
}

uint32_t lis_meter_passed(struct lis_meter *meter) {
    uint32_t passed = 0;
    /* Version 2 counts apart what reached this group's limit: a kill without that was for somebody else's, the host's say. */
    bool killed = has_grown(meter->oom, "oom_kill", &meter->oom_kills);
    meter->reached |=
        !meter->counts_ooms || has_grown(meter->oom, "oom", &meter->ooms); /* it comes first, perhaps alone */
    if (killed && meter->reached) {
        passed |= LIS_EXIT_OUT_OF_MEMORY;
        meter->reached = false;
    }
    if (has_grown(meter->pids_events, "max", &meter->pids_refused))
        passed |= LIS_EXIT_PIDS;
    if (!meter->account)
        return passed;
    uint32_t memory_over = LIS_LOAD(meter->account->memory_over), disk_over = LIS_LOAD(meter->account->disk_over);
    if (memory_over != meter->memory_over)
        passed |= LIS_EXIT_OUT_OF_MEMORY;
    if (disk_over != meter->disk_over)
        passed |= LIS_EXIT_DISK;
    meter->memory_over = memory_over;
    meter->disk_over = disk_over;
    return passed;
}

void lis_meter_begin(struct lis_meter *meter, bool alone) {
    if (alone && meter->peak >= 0) {
        /* version 1 takes a 0, version 2 anything, since 6.12; before, the peak is that of the sandbox's whole life */
        ssize_t written = pwrite(meter->peak, "0", 1, 0);
        (void)written;
    }
    if (alone && meter->account)
        LIS_STORE(meter->account->memory_peak, 0);
}

void lis_meter_busy(struct lis_meter *meter, bool busy) {
    if (meter->account)
        LIS_STORE(meter->account->busy, busy);
}

uint64_t lis_meter_peak(const struct lis_meter *meter) {
    uint64_t peak = 0;
    if (meter->peak >= 0)
        read_counter(meter->peak, "", &peak);
    else if (meter->account)
        peak = LIS_LOAD(meter->account->memory_peak);
    return peak;
}
